"""Writes LitData's `json` leaves; `blixt.data.foreign.litdata.nested` reads them and lists the tags."""

import json
import struct
from collections.abc import Callable
from typing import Any, cast

import numpy as np

_INT64 = range(-(2**63), 2**63)


def encode(value: Any) -> bytes:
    """Return a value tagged: what LitData has a tag for is binary, the rest JSON.

    Raises:
        TypeError: when a value is none of JSON's.
    """
    scalar = _scalar(value, 0)
    if scalar is not None:
        return scalar
    if isinstance(value, dict):
        return _mapping(cast("dict[Any, Any]", value))
    return _list(cast("list[Any]", value)) if isinstance(value, list) else _json(value)


def _scalar(value: Any, cell: int) -> bytes | None:
    """Return a plain value with its tag, None for all others.

    Args:
        value: what to write.
        cell: 1 for the tags that cells of records have.
    """
    if value is None:
        return bytes((0x10 if cell else 11,))
    if isinstance(value, bool):
        return bytes((0x14 if cell else 10, value))
    if isinstance(value, str):
        return bytes((0x11 if cell else 7,)) + _text(value)
    if _is_int64(value):
        return struct.pack("<Bq", 0x12 if cell else 8, value)
    if isinstance(value, float):
        return struct.pack("<Bd", 0x13 if cell else 9, value)
    return None


def _mapping(value: dict[Any, Any]) -> bytes:
    if not all(isinstance(key, str) for key in value):
        return _json(value)
    return _head(5, value) + b"".join(_text(key) + encode(child) for key, child in value.items())


def _list(items: list[Any]) -> bytes:
    if all(isinstance(item, str) for item in items):  # an empty list, too
        return _head(1, items) + b"".join(map(_text, items))
    for tag, fits, dtype in _NUMBERS:
        if all(map(fits, items)):
            return _head(tag, items) + np.asarray(items, dtype).tobytes()
    if all(isinstance(item, dict) for item in items):
        return _records(cast("list[dict[Any, Any]]", items)) or _json(items)
    return _json(items)


def _records(rows: list[dict[Any, Any]]) -> bytes | None:
    """Return dicts of the same keys and plain values, None when they are not."""
    keys = list(rows[0])
    if not keys or not all(isinstance(key, str) and set(row) == set(keys) for row in rows for key in keys):
        return None
    cells = [_scalar(row[key], 1) for row in rows for key in keys]
    if None in cells:
        return None
    head = _head(6, rows) + struct.pack("<I", len(keys)) + b"".join(map(_text, keys))
    return head + b"".join(cast("list[bytes]", cells))


def _is_int64(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value in _INT64


_NUMBERS: list[tuple[int, Callable[[Any], bool], str]] = [
    (4, lambda item: isinstance(item, bool), "?"),
    (2, _is_int64, "<i8"),
    (3, lambda item: isinstance(item, float), "<f8"),
]


def _head(tag: int, items: Any) -> bytes:
    return struct.pack("<BI", tag, len(items))


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<I", len(encoded)) + encoded


def _json(value: Any) -> bytes:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    return struct.pack("<BI", 0, len(text)) + text
