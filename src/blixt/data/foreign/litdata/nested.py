"""LitData's `json` leaves: tagged lists, dicts and records, or JSON text in older files.

A value is a tag byte and its content, little-endian: 0 JSON (u32 length, text); lists, each a u32 count and
then its items: 1 texts (u32 length, UTF-8), 2 i64, 3 f64, 4 booleans (a byte each); 5 dict (u32 count; key as
text, value); 6 records (u32 rows, u32 keys, the keys; every cell a tag and its content); 7 text, 8 i64,
9 f64, 10 boolean, 11 None. A first byte above 0x20 is JSON text without a tag.
"""

import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from blixt.data.errors import FormatError

_HIGHEST_TAG = 0x20


def decode(data: bytes) -> Any:
    """Return the value of a `json` leaf.

    Raises:
        FormatError: when the bytes are not one.
    """
    data = bytes(data)
    try:
        if not data or data[0] > _HIGHEST_TAG:
            return json.loads(data)
        cursor = _Cursor(data)
        return cursor.value()
    except (struct.error, IndexError, KeyError, ValueError) as problem:
        raise FormatError(f"a json leaf of LitData cannot be read: {problem!r}") from None


class _Cursor:
    """Reads values one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def value(self) -> Any:
        return _READERS[self._byte()](self)

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) != size:
            raise ValueError(f"it ends {size - len(taken)} bytes early")
        self._at += size
        return taken

    def count(self) -> int:
        return int.from_bytes(self._take(4), "little")

    def text(self) -> str:
        return self._take(self.count()).decode()

    def integer(self) -> int:
        return int.from_bytes(self._take(8), "little", signed=True)

    def floating(self) -> float:
        return struct.unpack("<d", self._take(8))[0]

    def boolean(self) -> bool:
        return self._byte() != 0

    def json(self) -> Any:
        return json.loads(self._take(self.count()))

    def texts(self) -> list[str]:
        return [self.text() for _ in range(self.count())]

    def numbers(self, dtype: str) -> list[Any]:
        item = np.dtype(dtype)
        return np.frombuffer(self._take(self.count() * item.itemsize), item).tolist()

    def mapping(self) -> dict[str, Any]:
        return {self.text(): self.value() for _ in range(self.count())}

    def records(self) -> list[dict[str, Any]]:
        rows = self.count()
        keys = self.texts()
        return [{key: _CELLS[self._byte()](self) for key in keys} for _ in range(rows)]


_READERS: dict[int, Callable[[_Cursor], Any]] = {
    0: _Cursor.json,
    1: _Cursor.texts,
    2: lambda cursor: cursor.numbers("<i8"),
    3: lambda cursor: cursor.numbers("<f8"),
    4: lambda cursor: cursor.numbers("?"),
    5: _Cursor.mapping,
    6: _Cursor.records,
    7: _Cursor.text,
    8: _Cursor.integer,
    9: _Cursor.floating,
    10: _Cursor.boolean,
    11: lambda _: None,
}
_CELLS: dict[int, Callable[[_Cursor], Any]] = {
    0x10: lambda _: None,
    0x11: _Cursor.text,
    0x12: _Cursor.integer,
    0x13: _Cursor.floating,
    0x14: _Cursor.boolean,
}
