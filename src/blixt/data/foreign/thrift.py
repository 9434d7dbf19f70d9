"""What a Parquet footer says of columns, read here: pyarrow ends the process at some damaged ones.

`RowGroupMetaData.column` and what hangs on it throw C++ exceptions that nobody catches, while opening a file
and reading its rows report damage as they should. So what is needed of columns, where values may be missing
and where the bytes are, is taken from the footer by our own reader of Thrift's compact protocol, in which
Parquet writes it.
"""

from dataclasses import dataclass
from typing import Any

from blixt.data.errors import FormatError

_FALSE, _BYTE, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 2, 3, 6, 7, 8, 9, 10, 11, 12
_MAX_DEPTH = 32
_ROW_GROUPS, _COLUMNS, _META_DATA, _PATH, _STATISTICS, _NULL_COUNT = 4, 1, 3, 3, 12, 3
_STORED, _DATA_PAGE, _DICTIONARY_PAGE = 7, 9, 11
"""The fields of Parquet's FileMetaData, RowGroup, ColumnChunk, ColumnMetaData and Statistics used here."""
_END = 8
"""Bytes after the footer: its length, and what every Parquet file ends with."""


@dataclass(frozen=True, slots=True)
class Footer:
    """What is used of a footer.

    Attributes:
        missing: the flat columns in which values may be missing.
        spans: of each row group, by column, where in the file its bytes begin and end; a nested column
            reaches from its first part to its last.
    """

    missing: frozenset[str]
    spans: list[dict[str, tuple[int, int]]]


def end_bytes(end: memoryview, where: str) -> int:
    """Return how many bytes of a file its footer and what follows it take.

    Args:
        end: the last bytes of the file, eight at least.
        where: names it in messages.

    Raises:
        FormatError: when it is no Parquet file.
    """
    if bytes(end[-4:]) != b"PAR1":
        raise FormatError(f"{where} is no Parquet file, or is cut short")
    return int.from_bytes(end[-_END:-4], "little") + _END


def read_footer(end: memoryview, where: str) -> Footer:
    """Read a footer.

    Args:
        end: the last bytes of the file, all of its footer among them.
        where: names it in messages.

    Raises:
        FormatError: when the footer makes no sense.
    """
    size = end_bytes(end, where)
    if size > len(end):
        raise FormatError(f"{where} is no Parquet file, or is cut short")
    try:
        footer = _Compact(bytes(end[len(end) - size : len(end) - _END])).struct(0)
        groups = [[column[_META_DATA] for column in group[_COLUMNS]] for group in footer[_ROW_GROUPS]]
        missing = frozenset(
            meta[_PATH][0].decode()
            for group in groups
            for meta in group
            if len(meta[_PATH]) == 1 and meta.get(_STATISTICS, {}).get(_NULL_COUNT) != 0
        )
        return Footer(missing, [_spans(group) for group in groups])
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as problem:
        raise FormatError(f"{where} is damaged: its footer makes no sense ({problem!r:.200})") from None


def _spans(group: list[dict[int, Any]]) -> dict[str, tuple[int, int]]:
    spans: dict[str, tuple[int, int]] = {}
    for meta in group:
        name = meta[_PATH][0].decode()
        first = min(meta[_DATA_PAGE], meta.get(_DICTIONARY_PAGE) or meta[_DATA_PAGE])
        low, high = spans.get(name, (first, first))
        spans[name] = min(low, first), max(high, first + meta[_STORED])
    return spans


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
