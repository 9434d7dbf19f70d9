"""What a Parquet footer says of missing values, read here: pyarrow ends the process at some damaged ones.

`RowGroupMetaData.column` and what hangs on it throw C++ exceptions that nobody catches, while opening a file
and reading its rows report damage as they should. So only this one fact is taken from the footer by our own
reader of Thrift's compact protocol, in which Parquet writes it.
"""

from typing import Any

from blixt.data.errors import FormatError

_FALSE, _BYTE, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 2, 3, 6, 7, 8, 9, 10, 11, 12
_MAX_DEPTH = 32
_ROW_GROUPS, _COLUMNS, _META_DATA, _PATH, _STATISTICS, _NULL_COUNT = 4, 1, 3, 3, 12, 3
"""The fields of Parquet's FileMetaData, RowGroup, ColumnChunk, ColumnMetaData and Statistics used here."""


def with_missing(content: memoryview, where: str) -> set[str]:
    """Return the flat columns of a Parquet file in which values may be missing.

    Args:
        content: the file.
        where: names it in messages.

    Raises:
        FormatError: when its footer makes no sense.
    """
    size = int.from_bytes(content[-8:-4], "little")
    if bytes(content[-4:]) != b"PAR1" or size > len(content) - 8:
        raise FormatError(f"{where} is no Parquet file, or is cut short")
    try:
        footer = _Compact(bytes(content[len(content) - 8 - size : len(content) - 8])).struct(0)
        columns = [column for group in footer[_ROW_GROUPS] for column in group[_COLUMNS]]
        metas = [column[_META_DATA] for column in columns]
        return {
            meta[_PATH][0].decode()
            for meta in metas
            if len(meta[_PATH]) == 1 and meta.get(_STATISTICS, {}).get(_NULL_COUNT) != 0
        }
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as problem:
        raise FormatError(f"{where} is damaged: its footer makes no sense ({problem!r:.200})") from None


class _Compact:
    """Reads one value after the other; a struct is a dict by field number."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def struct(self, depth: int) -> dict[int, Any]:
        if depth > _MAX_DEPTH:
            raise ValueError("nested too deeply")
        fields: dict[int, Any] = {}
        number = 0
        while header := self._byte():
            step, kind = divmod(header, 16)
            number = number + step if step else self._zigzag()
            fields[number] = kind != _FALSE if kind <= _FALSE else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind == _BINARY:
            return self._bytes(self._varint())
        if kind in (_LIST, _SET):
            count, item = divmod(self._byte(), 16)
            count = self._varint() if count == 15 else count
            return [self._item(item, depth) for _ in range(self._possible(count))]
        if kind == _MAP:
            count = self._possible(self._varint())
            kinds = divmod(self._byte(), 16) if count else (0, 0)
            return [[self._item(one, depth) for one in kinds] for _ in range(count)]
        if kind == _DOUBLE:
            return self._bytes(8)
        if kind == _BYTE:
            return self._byte()
        if _BYTE < kind <= _I64:
            return self._zigzag()
        raise ValueError(f"type {kind} is not known")

    def _item(self, kind: int, depth: int) -> Any:
        return self._byte() == 1 if kind <= _FALSE else self._value(kind, depth)

    def _possible(self, count: int) -> int:
        if count > len(self._data) - self._at:
            raise ValueError(f"{count} items in {len(self._data) - self._at} bytes")
        return count

    def _zigzag(self) -> int:
        number = self._varint()
        return number >> 1 ^ -(number & 1)

    def _varint(self) -> int:
        number = shift = 0
        while (byte := self._byte()) & 0x80:
            number |= (byte & 0x7F) << shift
            shift += 7
            if shift > 63:
                raise ValueError("a number is too long")
        return number | byte << shift

    def _byte(self) -> int:
        byte = self._data[self._at]
        self._at += 1
        return byte

    def _bytes(self, size: int) -> bytes:
        self._possible(size)
        self._at += size
        return self._data[self._at - size : self._at]
