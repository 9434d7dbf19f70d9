"""What LitData takes for a file: a wrapper, a path, bytes, or a dict of `path` and `bytes`."""

import os
from typing import Any, cast

from blixt.compat.litdata.core.media import Media, extension

_NATIVE = ("array", "image", "mesh", "pdf", "text")


def path_of(item: Any) -> str | None:
    """Return the path that something is or names, None where there is none."""
    if isinstance(item, dict):
        item = cast("dict[str, Any]", item).get("path")
    elif isinstance(item, Media):
        item = item.path
    if isinstance(item, os.PathLike):
        item = os.fspath(cast("os.PathLike[str]", item))
    return item if isinstance(item, str) else None


def read_file(item: Any) -> tuple[bytes, str]:
    """Return a file's bytes and its extension.

    Raises:
        FileNotFoundError: when the path is not there.
        TypeError: when there is neither a path nor bytes.
    """
    path, content = path_of(item), _content_of(item)
    if content is not None:
        return content, extension(path)
    if not path:
        raise TypeError(f"Unsupported media input: {type(item)}")
    if not os.path.isfile(path):
        raise FileNotFoundError(f"Media path does not exist: {path}")
    with open(path, "rb") as file:
        return file.read(), extension(path)


def _content_of(item: Any) -> bytes | None:
    if isinstance(item, Media):
        _check_content(item)
        return item.bytes
    content: Any = cast("dict[str, Any]", item).get("bytes") if isinstance(item, dict) else item
    return bytes(content) if isinstance(content, (bytes, bytearray)) else None


def _check_content(item: Media) -> None:
    if item.path is not None or item.bytes is not None:
        return
    kind, native = type(item).__name__, [name for name in _NATIVE if getattr(item, name, None) is not None]
    if native:
        raise TypeError(f"{kind} has {native} but no path/bytes; the serializer should encode those first.")
    raise TypeError(f"{kind} needs path=, bytes=, or a native payload (array=/image=/...).")


def is_file(item: Any, extensions: tuple[str, ...]) -> bool:
    """Whether something names a file of these extensions; a bare path must be there."""
    path = path_of(item)
    if path is None or extension(path) not in extensions:
        return False
    return isinstance(item, (dict, Media)) or os.path.isfile(path)


def is_a(item: Any, library: str, name: str) -> bool:
    """Whether something is of a class of a library, asked without importing it."""
    return any(
        kind.__name__ == name and kind.__module__.partition(".")[0] == library for kind in type(item).__mro__
    )
