"""The variable columns of a shard: values of one row side by side, rows in blocks."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from blixt.data.errors import CorruptionError, DataError, FormatError
from blixt.data.shard.blocks import Blocks, DecodedCache, Table, distinct
from blixt.data.shard.coder import BlockCoder
from blixt.data.shard.file import Range, ShardFile
from blixt.data.shard.frame import Section, check_blocks
from blixt.data.shard.layout import HEAP_BLOCK

Rows = npt.NDArray[np.int64]


class Heap:
    """Where each value lies, and its bytes once their block is checked.

    Args:
        file: the shard.
        heap: the section of the values.
        table: the section of the blocks.
        offsets: where values begin in the unpacked heap: `rows * width + 1` numbers.
        rows: the shard's rows.
        width: the number of variable columns.
    """

    def __init__(
        self,
        file: ShardFile,
        heap: Section,
        table: Blocks,
        offsets: Table,
        rows: int,
        width: int,
        coder: BlockCoder,
        check: bool,
        cache: DecodedCache,
    ) -> None:
        self.width = width
        self.offsets, self.table = offsets, table
        self._name, self._view, self._start = file.name, file.view, heap.offset
        entries = np.frombuffer(table.raw(0, table.section.raw_size), HEAP_BLOCK)
        try:
            section = _with_blocks(heap, entries, rows)
        except ValueError as problem:
            raise FormatError(f"shard {file.name}: its heap makes no sense ({problem})") from None
        if len(offsets) != rows * width + 1:
            raise FormatError(
                f"shard {file.name}: {len(offsets)} offsets do not fit {rows} rows of {width} values"
            )
        self.blocks = Blocks(file, section, coder, check, cache)
        self._first_rows: Sequence[int] = entries["first_row"].tolist()
        self._bounds = section.raw
        self._first_row_array = np.array(self._first_rows, np.int64)
        self._bounds_array = np.array(self._bounds, np.int64)

    def value(self, row: int, place: int) -> memoryview:
        """Return the stored bytes of one value.

        Raises:
            CorruptionError: when its block does not match its checksum.
        """
        low, high = self.offsets.pair(row * self.width + place)
        block = bisect_right(self._first_rows, row) - 1
        blocks = self.blocks
        if blocks.left:
            blocks.touch_one(block)
        begin = self._bounds[block]
        if not begin <= low <= high <= self._bounds[block + 1]:
            raise self._misplaced(row)
        if blocks.plain:
            return self._view[self._start + low : self._start + high]
        return blocks.content(block)[low - begin : high - begin]

    def one_of(self, place: int) -> Callable[[int], memoryview]:
        """Return what `value` is for one column, in one call where nothing is packed."""
        if not self.blocks.plain or not self.offsets.blocks.plain:
            return lambda row: self.value(row, place)
        width, offsets, blocks, view, start = self.width, self.offsets, self.blocks, self._view, self._start
        first_rows, bounds, numbers = self._first_rows, self._bounds, self.offsets.in_place

        def value(row: int) -> memoryview:
            at = row * width + place
            low, high = offsets.pair(at) if offsets.blocks.left else (numbers[at], numbers[at + 1])
            block = bisect_right(first_rows, row) - 1
            if blocks.left:
                blocks.touch_one(block)
            if not bounds[block] <= low <= high <= bounds[block + 1]:
                raise self._misplaced(row)
            return view[start + low : start + high]

        return value

    def values(self, rows: Rows, place: int) -> list[memoryview]:
        """Return the stored bytes of a column's values at many rows."""
        numbers: list[int] = rows.tolist()
        if not self.blocks.plain:
            self.touch(rows)
            return [self.value(row, place) for row in numbers]
        # A batch has few rows in each shard, for which arrays cost more than these loops.
        width, first_rows, bounds = self.width, self._first_rows, self._bounds
        offsets = self.offsets.numbers(numbers, width)
        blocks = [bisect_right(first_rows, row) - 1 for row in numbers]
        if self.blocks.left:
            self.blocks.touch_some(sorted(set(blocks)))
        view, start = self._view, self._start
        found: list[memoryview] = []
        for row, block in zip(numbers, blocks, strict=True):
            at = row * width + place
            low, high = offsets[at], offsets[at + 1]
            if not bounds[block] <= low <= high <= bounds[block + 1]:
                raise self._misplaced(row)
            found.append(view[start + low : start + high])
        return found

    def spans(self, rows: Rows, blocks: Rows, place: int) -> tuple[Rows, Rows]:
        """Return where in the file a column's values at many rows of plain blocks begin and end."""
        at = rows * self.width + place
        low, high = self.offsets.at(at), self.offsets.at(at + 1)
        wrong = (self._bounds_array[blocks] > low) | (low > high) | (high > self._bounds_array[blocks + 1])
        if wrong.any():
            raise self._misplaced(int(rows[wrong.argmax()]))
        return low + self._start, high + self._start

    def touch(self, rows: Rows) -> None:
        """See that the blocks of the rows are here and whole, fetching those that lack together."""
        if self.blocks.left:
            self.blocks.touch_some(distinct(self.blocks_of(rows)))

    def ranges(self, rows: Rows) -> list[Range]:
        """Return the bytes that the rows' values need, their offsets included, as far as not read yet."""
        lacking = self.offset_ranges(rows)
        return lacking + self.blocks.lacking(distinct(self.blocks_of(rows))) if self.blocks.left else lacking

    def offset_ranges(self, rows: Rows) -> list[Range]:
        """Return the bytes that it needs to know where the rows' values lie, as far as not read yet."""
        table = self.offsets.blocks
        if not table.left:
            return []
        ends = np.concatenate([rows * self.width, (rows + 1) * self.width])
        return table.lacking(distinct(ends * 8 // table.section.block_bytes))

    def problems(self) -> Iterator[DataError]:
        """Yield what is wrong with the heap and its tables."""
        yield from self.table.problems()
        yield from self.offsets.blocks.problems()
        yield from self.blocks.problems()
        try:
            offsets = self.offsets.all().astype(np.int64)
        except DataError:
            return
        if offsets[0] or (np.diff(offsets) < 0).any() or offsets[-1] != self._bounds[-1]:
            yield CorruptionError(f"shard {self._name}: the offsets of its values are not in order")

    def blocks_of(self, rows: Rows) -> Rows:
        """Return the block in which each row lies."""
        return self._first_row_array.searchsorted(rows, "right") - 1

    def _misplaced(self, row: int) -> CorruptionError:
        return CorruptionError(
            f"shard {self._name}: the offsets of row {row} lie outside of its block; build the shard again"
        )


def _with_blocks(heap: Section, entries: npt.NDArray[np.void], rows: int) -> Section:
    """Return the heap's section with the blocks that its table lists."""
    first_rows, sizes = entries["first_row"].tolist(), entries["size"].tolist()
    if (
        first_rows != sorted(set(first_rows))
        or first_rows[:1] != [0][: bool(rows)]
        or first_rows[-1:] > [rows - 1]
    ):
        raise ValueError("its blocks do not hold its rows")
    raw = [0, *accumulate(entries["raw"].tolist())]
    codecs = entries["codec"].tolist()
    if any(codecs) or not (entries["size"] == entries["raw"]).all():  # plain blocks are checked by the sums
        check_blocks(codecs, raw, sizes)
    stored = [*accumulate(sizes, initial=heap.offset)]
    if stored[-1] != heap.offset + heap.size or raw[-1] != heap.raw_size:
        raise ValueError("its blocks do not fill it")
    return replace(
        heap, raw=raw, stored=stored, crcs=entries["crc32c"].tolist(), codecs=codecs if any(codecs) else None
    )
