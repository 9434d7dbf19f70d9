"""The three kinds of column as they are read: one value, or many in one gather."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from blixt.data.errors import FormatError
from blixt.data.schema import Column
from blixt.data.shard.layout import BLOCK
from blixt.data.shard.mapped import Checked, MappedFile

Array = npt.NDArray[Any]
_U64 = np.dtype("<u8")


class ColumnReader(Protocol):
    """A column of one shard."""

    def one(self, row: int) -> Any:
        """Return the value of one row, as it was written."""
        ...

    def many(self, rows: npt.NDArray[np.int64]) -> Array | list[Any]:
        """Return the values of many rows: a stacked array where shapes agree by definition, else a list."""
        ...


class FixedColumn:
    """Values of one shape in one plain array."""

    def __init__(self, file: MappedFile, column: Column, values: Checked) -> None:
        dtype = np.dtype(column.dtype).newbyteorder("<")
        self._checked = values
        self._values = file.view(values.section, dtype).reshape(file.footer["rows"], *column.shape)
        self._row_bytes = dtype.itemsize * int(np.prod(column.shape, dtype=np.int64))
        self._is_scalar = not column.shape
        self._is_python = column.type != "array"

    def array(self) -> Array:
        """Return the whole column, checked and not copied."""
        self._checked.need_all()
        return self._values

    def one(self, row: int) -> Any:
        """Return the value of one row: a Python number, a numpy scalar, or a copy of the array."""
        self._checked.need(row * self._row_bytes, (row + 1) * self._row_bytes)
        if self._is_python:
            return self._values.item(row)
        return self._values[row] if self._is_scalar else self._values[row].copy()

    def many(self, rows: npt.NDArray[np.int64]) -> Array:
        """Return the rows stacked, in one gather."""
        if self._checked.pending:
            for row in rows.tolist():
                self._checked.need(row * self._row_bytes, (row + 1) * self._row_bytes)
        return self._values[rows]

    def verify(self) -> None:
        """Check every byte of the column."""
        self._checked.verify()


class StreamColumn:
    """Tokens of all rows in one flat array, and where each row's document begins."""

    def __init__(self, file: MappedFile, column: Column, values: Checked, documents: Checked) -> None:
        self._checked = values
        self._values = file.view(values.section, np.dtype(column.dtype).newbyteorder("<"))
        self._checked_documents = documents
        self._documents = file.view(documents.section, _U64)

    def __len__(self) -> int:
        return len(self._values)

    def documents(self) -> npt.NDArray[np.uint64]:
        """Return the `rows + 1` offsets of the documents."""
        self._checked_documents.need_all()
        return self._documents

    def tokens(self, start: int, stop: int) -> Array:
        """Return the tokens `[start, stop)`, a mapped array."""
        item = self._values.itemsize
        self._checked.need(start * item, stop * item)
        return self._values[start:stop]

    def one(self, row: int) -> Array:
        """Return a copy of one document."""
        self._checked_documents.need(8 * row, 8 * row + 16)
        return self.tokens(self._documents.item(row), self._documents.item(row + 1)).copy()

    def many(self, rows: npt.NDArray[np.int64]) -> list[Any]:
        """Return the documents one by one, since their lengths differ."""
        return [self.one(row) for row in rows.tolist()]

    def verify(self) -> None:
        """Check every byte of the column."""
        self._checked_documents.verify()
        self._checked.verify()


class Heap:
    """The variable columns of a shard, row after row, in blocks of whole rows."""

    def __init__(
        self, file: MappedFile, columns: int, blocks: Checked, offsets: Checked, start: int, check: bool
    ) -> None:
        blocks.need_all()
        offsets.need_all()
        self.columns = columns
        self._file = file
        self._tables = blocks, offsets
        self._blocks = file.view(blocks.section, BLOCK)
        self._offsets = file.view(offsets.section, _U64)
        self._first_rows: Sequence[int] = self._blocks["first_row"].tolist()
        self._pending = bytearray([check]) * len(self._blocks)
        self._start = start
        if (self._blocks["codec"] != 0).any():
            raise FormatError(
                f"shard {file.path} has compressed blocks, which this version of blixt cannot read"
            )

    def value(self, row: int, column: int) -> memoryview:
        """Return the stored bytes of one value."""
        block = bisect_right(self._first_rows, row) - 1
        if self._pending[block]:
            self._verify(block)
            self._pending[block] = 0
        at = row * self.columns + column
        return self._file.bytes[
            self._start + self._offsets.item(at) : self._start + self._offsets.item(at + 1)
        ]

    def verify(self) -> None:
        """Check every byte of the heap and of its tables."""
        for table in self._tables:
            table.verify()
        for block in range(len(self._blocks)):
            self._verify(block)

    def _verify(self, block: int) -> None:
        entry = self._blocks[block]
        low = self._start + int(entry["offset"])
        self._file.compare(low, low + int(entry["size"]), int(entry["crc32c"]), f"heap block {block}")


class VariableColumn:
    """Text, bytes or arrays of varying shape: one place in every row of the heap."""

    def __init__(self, column: Column, heap: Heap, place: int) -> None:
        self._heap = heap
        self._place = place
        self._dtype = np.dtype(column.dtype)
        self._decode = {"utf8": _text, "bytes": bytes, "array": self._ragged}[column.type]

    def one(self, row: int) -> Any:
        """Return the value of one row."""
        return self._decode(self._heap.value(row, self._place))

    def many(self, rows: npt.NDArray[np.int64]) -> list[Any]:
        """Return the values one by one, since their sizes differ."""
        return [self.one(row) for row in rows.tolist()]

    def _ragged(self, stored: memoryview) -> Array:
        ndim = int.from_bytes(stored[:8], "little")
        shape = np.frombuffer(stored, _U64, ndim, 8).tolist()
        items = np.frombuffer(stored[8 + 8 * ndim :], self._dtype.newbyteorder("<"))
        return items.reshape(shape).copy()


def _text(stored: memoryview) -> str:
    return str(stored, "utf-8")
