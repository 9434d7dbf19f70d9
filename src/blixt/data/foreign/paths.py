"""From what people write (a folder, a file, a pattern) to a store and the names of files in it."""

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from itertools import product
from pathlib import Path

from blixt.data.errors import FormatError
from blixt.data.store import Credentials, Store, open_store

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_AT_ONCE = 16
"""How many files are asked for at a time."""


def find(
    location: str | Path,
    suffixes: Sequence[str],
    credentials: Credentials = None,
    options: Mapping[str, str] | None = None,
) -> tuple[Store, dict[str, int]]:
    """Return the store, and the files that a location means, with their sizes in bytes, sorted by name.

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
    sizes = _sizes(store, pattern, suffixes)
    if not sizes:
        raise FormatError(f"{location} has no files that end in {' or '.join(suffixes)}")
    return store, sizes


def _sizes(store: Store, pattern: str, suffixes: Sequence[str]) -> dict[str, int]:
    if pattern and not re.search(r"[*?\[]", pattern):
        names = expand(pattern)
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            found = dict(zip(names, threads.map(store.size, names), strict=True))
        sizes = {name: size for name, size in found.items() if size is not None}
        absent = [name for name in names if name not in sizes]
        if absent:
            raise FormatError(f"there is no {store.url(absent[0])}")
        return sizes
    patterns = expand(pattern) if pattern else [f"*{suffix}" for suffix in suffixes]
    return dict(sorted(file for file in store.list() if any(fnmatch(file[0], one) for one in patterns)))


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
