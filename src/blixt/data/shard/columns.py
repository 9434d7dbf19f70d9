"""The three kinds of column as they are read: one value, or many in one gather."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from blixt.data.codecs.arrays import storage_dtype, to_tensor
from blixt.data.decode import Decoder
from blixt.data.errors import CorruptionError, DataError, FormatError
from blixt.data.schema import Column
from blixt.data.shard.blocks import Blocks, Table, distinct
from blixt.data.shard.file import Range
from blixt.data.shard.heap import Heap

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]


class ColumnReader(Protocol):
    """A column of one shard."""

    @property
    def one(self) -> Callable[[int], Any]:
        """Return the value of one row, as it was written."""
        ...

    def stored(self, row: int) -> Any:
        """Return the value of one row as it is stored."""
        ...

    def many(self, rows: Rows) -> Array | list[Any]:
        """Return the values of many rows: a stacked array where shapes agree by definition, else a list."""
        ...

    def touch(self, rows: Rows) -> None:
        """See that what the rows need is here and whole."""
        ...

    def ranges(self, rows: Rows) -> list[Range]:
        """Return the bytes of the file that the rows need, as far as they were not read yet."""
        ...

    def problems(self) -> Iterator[DataError]:
        """Yield what is wrong with the column's bytes."""
        ...


class FixedColumn:
    """Values of one shape in one plain array."""

    def __init__(self, view: memoryview, column: Column, blocks: Blocks, rows: int, name: str) -> None:
        dtype = storage_dtype(str(column.dtype)).newbyteorder("<")
        self._row_bytes = dtype.itemsize * math.prod(column.shape)
        section = blocks.section
        if section.raw_size != rows * self._row_bytes or (
            self._row_bytes and section.block_bytes % self._row_bytes
        ):
            raise FormatError(
                f"shard {name}: column {column.name!r} has {section.raw_size} bytes for {rows} rows"
            )
        self._blocks, self._dtype, self._shape = blocks, dtype, column.shape
        self._is_python = column.type in ("int", "float", "bool")
        self._tensor_dtype = str(column.dtype) if column.type == "tensor" else None
        self._is_scalar = not column.shape
        self._block_rows = section.block_bytes // self._row_bytes if self._row_bytes else max(rows, 1)
        self._values: Array | None = None
        if blocks.plain:
            items = rows * math.prod(column.shape)
            self._values = np.frombuffer(view, dtype, items, section.offset).reshape(rows, *column.shape)

    def slice(self, start: int, stop: int) -> Array:
        """Return the rows `[start, stop)`, in place where they are not packed."""
        low, high = start * self._row_bytes, stop * self._row_bytes
        if self._values is not None:
            self._blocks.touch_bytes(low, high)
            return self._values[start:stop]
        if low >= high:
            return np.empty((stop - start, *self._shape), self._dtype)
        return np.frombuffer(self._blocks.raw(low, high), self._dtype).reshape(-1, *self._shape)

    def one(self, row: int) -> Any:
        """Return the value of one row: a Python number, a numpy scalar, or a copy of the array."""
        values = self._values
        if values is None:
            values, row = self._block(row // self._block_rows), row % self._block_rows
        elif self._blocks.left:
            self._blocks.touch_one(row // self._block_rows)
        if self._is_python:
            return values.item(row)
        if self._tensor_dtype is not None:
            return to_tensor(np.array(values[row]), self._tensor_dtype)
        return values[row] if self._is_scalar else values[row].copy()

    def stored(self, row: int) -> bytes:
        """Return the bytes of one row."""
        return self.slice(row, row + 1).tobytes()

    def many(self, rows: Rows) -> Array:
        """Return the rows stacked, in one gather."""
        if self._blocks.left:
            self.touch(rows)
        if self._values is not None:
            return self._values[rows]
        out = np.empty((len(rows), *self._shape), self._dtype)
        block_of = rows // self._block_rows
        for block in distinct(block_of):
            where = block_of == block
            out[where] = self._block(block)[rows[where] - block * self._block_rows]
        return out

    def touch(self, rows: Rows) -> None:
        """See that the blocks of the rows are here and whole, fetching those that lack together."""
        if self._row_bytes:
            self._blocks.touch_some(distinct(rows // self._block_rows))

    def ranges(self, rows: Rows) -> list[Range]:
        """Return the bytes of the file that the rows need, as far as they were not read yet."""
        if not self._row_bytes or not self._blocks.left:
            return []
        return self._blocks.lacking(distinct(rows // self._block_rows))

    def problems(self) -> Iterator[DataError]:
        """Yield what is wrong with the column's bytes."""
        return self._blocks.problems()

    def _block(self, block: int) -> Array:
        if not self._row_bytes:
            return np.empty((self._block_rows, *self._shape), self._dtype)
        self._blocks.touch(block, block + 1)
        return np.frombuffer(self._blocks.content(block), self._dtype).reshape(-1, *self._shape)


class StreamColumn:
    """Tokens of all rows in one flat array, and where each row's document begins."""

    def __init__(
        self, view: memoryview, column: Column, blocks: Blocks, documents: Table, rows: int, name: str
    ) -> None:
        self._dtype = np.dtype(column.dtype).newbyteorder("<")
        size = blocks.section.raw_size
        if (
            size % self._dtype.itemsize
            or len(documents) != rows + 1
            or blocks.section.block_bytes % self._dtype.itemsize
        ):
            raise FormatError(
                f"shard {name}: stream {column.name!r} of {size} bytes does not fit {rows} rows"
            )
        self._blocks, self._documents, self._name = blocks, documents, f"shard {name}: stream {column.name!r}"
        self._length = size // self._dtype.itemsize
        self._values: Array | None = None
        self._windows: dict[int, Array] = {}
        if blocks.plain:
            self._values = np.frombuffer(view, self._dtype, self._length, blocks.section.offset)

    def __len__(self) -> int:
        return self._length

    def documents(self) -> npt.NDArray[np.uint64]:
        """Return the `rows + 1` offsets of the documents."""
        return self._documents.all()

    def tokens(self, start: int, stop: int) -> Array:
        """Return the tokens `[start, stop)`: in place where they are not packed."""
        item = self._dtype.itemsize
        if self._values is not None:
            if self._blocks.left:
                self._blocks.touch_bytes(start * item, stop * item)
            return self._values[start:stop]
        if start >= stop:
            return np.empty(0, self._dtype)
        return np.frombuffer(self._blocks.raw(start * item, stop * item), self._dtype)

    def windows(self, starts: Rows, length: int) -> Array:
        """Return `length` tokens from each start on, stacked `[len(starts), length]`, in one gather."""
        if self._values is None:
            return np.stack([self.tokens(start, start + length) for start in starts.tolist()])
        if self._blocks.left:
            item = self._dtype.itemsize
            for start in starts.tolist():
                self._blocks.touch_bytes(start * item, (start + length) * item)
        windows = self._windows.get(length)
        if windows is None:
            windows = self._windows[length] = np.lib.stride_tricks.sliding_window_view(self._values, length)
        return windows[starts]

    def token_ranges(self, start: int, stop: int) -> list[Range]:
        """Return the bytes of the file that the tokens `[start, stop)` need, as far as not read yet."""
        if start >= stop or not self._blocks.left:
            return []
        item, grain = self._dtype.itemsize, self._blocks.section.block_bytes
        return self._blocks.lacking(range(start * item // grain, -(-stop * item // grain)))

    def one(self, row: int) -> Array:
        """Return a copy of one document."""
        return self.tokens(*self._span(row)).copy()

    def stored(self, row: int) -> Array:
        """Return the document in place."""
        return self.tokens(*self._span(row))

    def many(self, rows: Rows) -> list[Any]:
        """Return the documents one by one, since their lengths differ."""
        return [self.one(row) for row in rows.tolist()]

    def touch(self, rows: Rows) -> None:
        """See that the documents are here and whole."""
        item = self._dtype.itemsize
        for low, high in map(self._span, rows.tolist()):
            self._blocks.touch_bytes(low * item, high * item)

    def ranges(self, rows: Rows) -> list[Range]:
        """Return the bytes of the file that the rows need; reads their offsets."""
        spans = [self._span(row) for row in rows.tolist()]
        table = [self._documents.blocks.stored_bytes(8 * row, 8 * row + 16) for row in rows.tolist()]
        return table + [span for low, high in spans for span in self.token_ranges(low, high)]

    def problems(self) -> Iterator[DataError]:
        """Yield what is wrong with the column's bytes."""
        yield from self._documents.blocks.problems()
        yield from self._blocks.problems()
        try:
            documents = self._documents.all().astype(np.int64)
        except DataError:
            return
        if documents[0] or (np.diff(documents) < 0).any() or documents[-1] != self._length:
            yield CorruptionError(f"{self._name}: the offsets of its documents are not in order")

    def _span(self, row: int) -> Range:
        low, high = self._documents.pair(row)
        if not low <= high <= self._length:
            raise CorruptionError(f"{self._name}: row {row} lies outside of it; build the shard again")
        return low, high


class VariableColumn:
    """Text, bytes, images: one place in every row of the heap."""

    def __init__(self, column: Column, heap: Heap, place: int, decoder: Decoder, name: str) -> None:
        self._heap, self._place, self._decode = heap, place, decoder
        self._value = heap.one_of(place)
        self._name = f"shard {name}: column {column.name!r}"

    def one(self, row: int) -> Any:
        """Return the value of one row."""
        stored = self._value(row)
        try:
            return self._decode(stored)
        except DataError:
            raise
        except Exception as problem:  # whatever a codec's library raises for bytes it cannot read
            raise self._undecodable(row, problem) from problem

    def stored(self, row: int) -> memoryview:
        """Return the stored bytes of one row, in place."""
        return self._value(row)

    def many(self, rows: Rows) -> list[Any]:
        """Return the values one by one, since their sizes differ."""
        decode, row = self._decode, -1
        stored = self._heap.values(rows, self._place)
        if decode is bytes:
            return [bytes(value) for value in stored]
        values: list[Any] = []
        try:
            for row, value in zip(rows.tolist(), stored, strict=True):  # noqa: B007  the error names it
                values.append(decode(value))
        except DataError:
            raise
        except Exception as problem:  # as above
            raise self._undecodable(row, problem) from problem
        return values

    def views(self, rows: Rows) -> list[memoryview]:
        """Return the stored bytes in place."""
        return self._heap.values(rows, self._place)

    def touch(self, rows: Rows) -> None:
        """See that the rows are here and whole."""
        self._heap.touch(rows)

    def ranges(self, rows: Rows) -> list[Range]:
        """Return the bytes of the file that the rows need."""
        return self._heap.ranges(rows)

    def problems(self) -> Iterator[DataError]:
        """Yield nothing: the heap that the variable columns share is looked at once, by the reader."""
        return iter(())

    def _undecodable(self, row: int, problem: Exception) -> CorruptionError:
        return CorruptionError(
            f"{self._name}, row {row}: its bytes are as they were written but cannot be decoded "
            f"({type(problem).__name__}: {problem})"
        )
