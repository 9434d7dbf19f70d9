"""From what people write (a folder, a file, a pattern) to a store and the names of files in it."""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from itertools import product
from pathlib import Path

from blixt.data.errors import FormatError
from blixt.data.store import Credentials, Store, open_store

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def find(
    location: str | Path,
    suffixes: Sequence[str],
    credentials: Credentials = None,
    options: Mapping[str, str] | None = None,
) -> tuple[Store, list[str]]:
    """Return the store and the sorted names of the files that a location means.

    Args:
        location: a folder (every file below it that ends in a suffix), one file, a pattern with `*`, `?` or
            `[...]`, or names with braces such as `shard-{000..012}.tar` or `{train,test}.parquet`.
        suffixes: how such files end.
        credentials, options: for a remote store; see `open_store`.

    Raises:
        FormatError: when there is none.
    """
    text = str(location).rstrip("/")
    if re.search(r"[*{?\[]", text):
        folder = re.split(r"[*{?\[]", text)[0].rpartition("/")[0]
        pattern = text[len(folder) + 1 :] if folder else text
    elif text.endswith(tuple(suffixes)):
        folder, _, pattern = text.rpartition("/")
    else:
        folder, pattern = text, ""
    store = open_store(
        folder or ("/" if text.startswith("/") else "."), credentials=credentials, options=options
    )
    names = _names(store, pattern, suffixes)
    if not names:
        raise FormatError(f"{location} has no files that end in {' or '.join(suffixes)}")
    return store, names


def _names(store: Store, pattern: str, suffixes: Sequence[str]) -> list[str]:
    if pattern and not re.search(r"[*?\[]", pattern):
        names = expand(pattern)
        absent = [name for name in names if store.size(name) is None]
        if absent:
            raise FormatError(f"there is no {store.url(absent[0])}")
        return names
    patterns = expand(pattern) if pattern else [f"*{suffix}" for suffix in suffixes]
    return sorted(name for name, _ in store.list() if any(fnmatch(name, one) for one in patterns))


def expand(pattern: str) -> list[str]:
    """Return the names that braces stand for.

    Example:
        >>> expand("{a,b}-{08..10}.tar")
        ['a-08.tar', 'a-09.tar', 'a-10.tar', 'b-08.tar', 'b-09.tar', 'b-10.tar']
    """
    parts = _BRACES.split(pattern)
    choices = [_choices(part) if place % 2 else [part] for place, part in enumerate(parts)]
    return ["".join(chosen) for chosen in product(*choices)]


def _choices(inside: str) -> list[str]:
    if match := _RANGE.fullmatch(inside):
        return [f"{number:0{len(match[1])}d}" for number in range(int(match[1]), int(match[2]) + 1)]
    return inside.split(",")
