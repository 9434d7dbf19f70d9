"""The files of a store as inputs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from blixt.data.store import Credentials, open_store


def list_files(
    location: str | Path,
    suffixes: Sequence[str] = (),
    *,
    credentials: Credentials = None,
    options: Mapping[str, str] | None = None,
) -> list[str]:
    """Return the addresses of all files below a folder or bucket address, sorted.

    Give them to `optimize` or `map` as inputs together with `input_dir=location`.

    Args:
        location: where to look.
        suffixes: only files that end so, such as `[".jpg", ".png"]`; upper and lower case count as equal.
        credentials: for the location.
        options: for the location.

    Raises:
        StoreError: when the store refuses, or is one that cannot list.
    """
    store = open_store(location, credentials=credentials, options=options)
    wanted = tuple(suffix.lower() for suffix in suffixes) or ("",)
    return sorted(store.url(path) for path, _ in store.list() if path.lower().endswith(wanted))
