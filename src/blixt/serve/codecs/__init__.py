"""Bodies to Python values and back: JSON, forms, arrays, pictures; chosen once, from annotations."""

from collections.abc import Callable
from typing import Any, TypeAlias

from blixt.serve.request import Meta

Buffer: TypeAlias = "bytes | memoryview"
Reader = Callable[[Buffer, "Meta | None"], Any]
"""`(body, meta) -> value`; `meta` is None for plain JSON. Raises `HTTPError` for a body that does not fit."""


def media_of(meta: "Meta | None") -> tuple[str, dict[str, str]]:
    """A body's media type in lower case and its parameters; ("", {}) means JSON.

    Example:
        >>> media_of(Meta(content_type="Text/Plain; charset=utf-8"))
        ('text/plain', {'charset': 'utf-8'})
    """
    if meta is None or not meta.content_type:
        return "", {}
    media, *rest = meta.content_type.split(";")
    media = media.strip().lower()
    if not rest:
        return media, {}
    pairs = (item.partition("=") for item in rest)
    return media, {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}


def is_json(media: str) -> bool:
    """Whether a media type means JSON; no type at all does."""
    return media in ("", "application/json", "text/json") or media.endswith("+json")
