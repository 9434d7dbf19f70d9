"""Read one shard through a memory map: nothing is copied unasked, and nothing damaged is handed out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt

from blixt.data.crypto import Key, cipher_for_reading
from blixt.data.decode import Decode, Decoder, sample_builder, value_decoder
from blixt.data.errors import CorruptionError, DataError, FormatError
from blixt.data.filemap import FileMap
from blixt.data.schema import Column, Schema
from blixt.data.shard.blocks import Blocks, DecodedCache, Table, decoded_cache
from blixt.data.shard.coder import BlockCoder
from blixt.data.shard.columns import Array, ColumnReader, FixedColumn, StreamColumn, VariableColumn
from blixt.data.shard.file import Range, ShardFile, merge_ranges
from blixt.data.shard.frame import check_header, read_frame
from blixt.data.shard.heap import Heap
from blixt.data.shard.layout import ALIGNMENT, HEADER
from blixt.data.shard.mapped import MappedFile
from blixt.data.types import Codec

Rows = npt.NDArray[np.int64]


class ShardReader:
    """One shard, mapped or fetched piece by piece.

    Args:
        file: the `.shard` file's path, or a `ShardFile`.
        check: verify a block's checksum when it is first read; the file's frame is always verified.
        key: the key of an encrypted shard, or a function from its id to it.
        decode: whether media columns (images, sound, ...) are decoded, or given as the bytes that are stored;
            a mapping decides by column.
        codecs: your own codecs by name.
        allow_pickle: decode columns of pickles, which runs their code.
        cache: where unpacked blocks of compressed or encrypted shards are kept; one for the process when
            None.

    Raises:
        DatasetNotFoundError: when the file is not there.
        FormatError: when it is no shard, was cut short, or has a version this reader does not know.
        CorruptionError: when the header or the footer do not match their checksum.
        DecryptionError: when it is encrypted with another key.
    """

    def __init__(
        self,
        file: ShardFile | str | Path,
        *,
        check: bool = True,
        key: Key | None = None,
        decode: Decode = True,
        codecs: Mapping[str, Codec] | None = None,
        allow_pickle: bool = False,
        cache: DecodedCache | None = None,
    ) -> None:
        self._file: ShardFile = MappedFile(file) if isinstance(file, (str, Path)) else file
        if self._file.is_local:
            check_header(self._file)
        self._frame = frame = read_frame(self._file)
        self.schema: Schema = frame.schema
        cipher = None
        if frame.encryption is not None:
            cipher = cipher_for_reading(key, frame.encryption, f"shard {self._file.name}")
        self._coder, self._check, self._cache = BlockCoder(None, cipher), check, cache or decoded_cache()
        self._variable = [column.name for column in self.schema.columns if column.kind == "variable"]
        self._heap = self._open_heap() if self._variable else None
        self._columns: dict[str, ColumnReader] = {
            column.name: self._open_column(column, decode, codecs, allow_pickle)
            for column in self.schema.columns
        }
        ones: dict[str, Callable[[int], Any]] = {name: column.one for name, column in self._columns.items()}
        self._sample: Callable[[int], Any] = sample_builder(self.schema.structure, ones)
        mapped = self._file.view.obj
        self.source: FileMap | None = mapped if isinstance(mapped, FileMap) else None
        """The map of the whole file; None when it is in memory."""
        self.confirm: Callable[[], None] = _nothing if self.source is None else self.source.confirm
        """See that the mapped file was not cut short, after bytes were copied out of views of it."""

    @property
    def name(self) -> str:
        """The path or URL of the file."""
        return self._file.name

    @property
    def rows(self) -> int:
        """How many samples the shard holds."""
        return self._frame.rows

    @property
    def is_in_place(self) -> bool:
        """Whether the file is mapped and views of variable values hold no unpacked block."""
        return self.source is not None and (self._heap is None or self._heap.blocks.plain)

    @property
    def dataset_id(self) -> UUID:
        """The dataset that the shard was first written for."""
        return self._frame.dataset_id

    @property
    def footer_crc(self) -> int:
        """The checksum of the footer, by which a snapshot knows the shard."""
        return self._frame.crc

    @property
    def stats(self) -> dict[str, Any]:
        """What the writer counted of each column."""
        return self._frame.stats

    @property
    def meta(self) -> dict[str, Any]:
        """What else the writer noted."""
        return self._frame.meta

    def sample(self, row: int) -> Any:
        """Return one sample, by its row in the shard, as it was written; arrays are copies.

        Raises:
            CorruptionError: when its bytes do not match their checksum.
            FormatError: when the file was cut short while it was in use.
        """
        try:
            sample = self._sample(row)
        except DataError:
            self.confirm()  # where it was cut short, that is what to say
            raise
        self.confirm()
        return sample

    def batch(self, rows: Rows, columns: Sequence[str] | None = None) -> dict[str, Array | list[Any]]:
        """Return columns (all when None) at the rows, having fetched what all of them lack at once."""
        names = self._columns if columns is None else columns
        if not self._file.is_local:
            self.ensure(rows, columns)
        return {name: self.gather(name, rows) for name in names}

    def gather(self, name: str, rows: Rows) -> Array | list[Any]:
        """Return a column's values at the rows: a stacked array for a fixed column, else a list."""
        try:
            values = self._columns[name].many(rows)
        except DataError:
            self.confirm()
            raise
        self.confirm()
        return values

    def value(self, name: str) -> Callable[[int], Any]:
        """Return the function from a row to a column's value."""
        return self._columns[name].one

    def views(self, name: str, rows: Rows) -> list[memoryview]:
        """Return the stored bytes of a variable column at the rows, in place where they are not packed.

        Raises:
            KeyError: when there is no such variable column.
        """
        column = self._columns[name]
        if not isinstance(column, VariableColumn):
            raise KeyError(f"{name} is not a variable column of shard {self._file.name}")
        try:
            return column.views(rows)
        except DataError:
            self.confirm()
            raise

    def spans(self, name: str, rows: Rows, blocks: Rows) -> tuple[Rows, Rows]:
        """Return where in a file that `is_in_place` the values of a variable column begin and end.

        They are not to be used before `check` has seen the blocks.

        Args:
            name: the column.
            rows: row numbers.
            blocks: what `blocks` says of them.

        Raises:
            KeyError: when there is no such variable column.
            CorruptionError: when an offset leads out of its block.
        """
        if self._heap is None or name not in self._variable:
            raise KeyError(f"{name} is not a variable column of shard {self._file.name}")
        try:
            return self._heap.spans(rows, blocks, self._variable.index(name))
        except DataError:
            self.confirm()
            raise

    def blocks(self, rows: Rows) -> Rows:
        """Return the block of the variable columns in which each row lies."""
        return np.zeros(0, np.int64) if self._heap is None else self._heap.blocks_of(rows)

    def lacking(self, blocks: Rows) -> Rows:
        """Return which places of an array of blocks name one that `check` has not seen yet."""
        return np.zeros(0, np.int64) if self._heap is None else self._heap.blocks.unseen(blocks)

    def block_ranges(self, blocks: Sequence[int]) -> list[Range]:
        """Return where those of the blocks of the variable columns lie that were not read yet."""
        return [] if self._heap is None else self._heap.blocks.lacking(blocks)

    def look_up_ranges(self, rows: Rows, columns: Sequence[str]) -> list[Range]:
        """Return what `ranges` does of fixed columns, and of variable ones what says where they lie."""
        ranges = [] if self._heap is None else self._heap.offset_ranges(rows)
        for name in columns:
            if name not in self._variable:
                ranges += self._columns[name].ranges(rows)
        return merge_ranges(ranges)

    def check(self, blocks: Sequence[int]) -> None:
        """See that these blocks of the variable columns, which are here, are whole.

        Raises:
            CorruptionError: when one does not match its checksum.
            FormatError: when the file was cut short while it was in use.
        """
        if self._heap is None or not self._heap.blocks.left:
            return
        try:
            self._heap.blocks.touch_some(blocks, here=True)
        except DataError:
            self.confirm()
            raise

    def value_sizes(self, name: str) -> Rows:
        """Return how many bytes each value of a variable column takes; the values are not looked at.

        Raises:
            KeyError: when there is no such variable column.
        """
        if self._heap is None or name not in self._variable:
            raise KeyError(f"{name} is not a variable column of shard {self._file.name}")
        ends, place, width = self._heap.offsets.all(), self._variable.index(name), len(self._variable)
        sizes = ends[place + 1 :: width].astype(np.int64) - ends[place:-1:width].astype(np.int64)
        self.confirm()
        return sizes

    def stored(self, row: int) -> list[Any]:
        """Return one row as `ShardWriter.write_values` takes it: nothing is decoded."""
        return [self._columns[column.name].stored(row) for column in self.schema.columns]

    def fixed(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Return rows of a fixed column as one checked array `[rows, *shape]`; in place if it is not packed.

        Raises:
            KeyError: when there is no such fixed column.
        """
        column = self._columns[name]
        if not isinstance(column, FixedColumn):
            raise KeyError(f"{name} is not a fixed column of shard {self._file.name}")
        return column.slice(start, self.rows if stop is None else stop)

    def stream(self, name: str) -> StreamColumn:
        """Return a stream column: its tokens by number, and its document offsets.

        Raises:
            KeyError: when there is no such stream column.
        """
        column = self._columns[name]
        if not isinstance(column, StreamColumn):
            raise KeyError(f"{name} is not a stream column of shard {self._file.name}")
        return column

    def ranges(self, rows: Rows, columns: Sequence[str] | None = None) -> list[Range]:
        """Return which bytes of the file the rows need that were not read yet: sorted ranges of whole blocks.

        Where a stream column is among the columns, its offsets are read to know.
        """
        names = self._columns if columns is None else columns
        ranges: list[Range] = []
        heap_is_in = False
        for name in names:
            column = self._columns[name]
            if isinstance(column, VariableColumn):
                if heap_is_in:
                    continue
                heap_is_in = True
            ranges += column.ranges(rows)
        return merge_ranges(ranges)

    def ensure(self, rows: Rows, columns: Sequence[str] | None = None) -> None:
        """Return when all that the rows need is here."""
        self._file.ensure(self.ranges(rows, columns))

    def problems(self) -> Iterator[DataError]:
        """Yield everything that is wrong with the file, having looked at every byte of it."""
        try:
            check_header(self._file)
        except DataError as problem:
            yield problem
        for column in self._columns.values():
            yield from column.problems()
        if self._heap is not None:
            yield from self._heap.problems()
        yield from self._padding_problems()

    def verify(self) -> None:
        """Check every byte of the file.

        Raises:
            CorruptionError: for the first thing that is wrong.
        """
        for problem in self.problems():
            raise problem

    def close(self) -> None:
        """Give back what the file holds."""
        self._file.close()

    def _padding_problems(self) -> Iterator[DataError]:
        """Bytes between the sections carry nothing and have no checksum; they must be zero, and few."""
        spans = sorted(
            (section.offset, section.offset + section.size) for section in self._frame.sections.values()
        )
        position = HEADER.size
        for low, high in [*spans, (self._frame.start, self._frame.start)]:
            if low > position:
                self._file.ensure([(position, low)])
            if low - position >= ALIGNMENT or any(self._file.view[position:low]):
                yield CorruptionError(
                    f"shard {self._file.name}: the padding is damaged, bytes {position} to {low} are not zero"
                )
            position = max(position, high)

    def _open_heap(self) -> Heap:
        sections, frame = self._frame.sections, self._frame
        heap, width = sections.get(("heap", None)), len(self._variable)
        if heap is None:
            raise FormatError(
                f"shard {self._file.name} has no heap for its columns {', '.join(self._variable)}"
            )
        offsets = self._table("heap_offsets", None)
        table = self._blocks("heap_blocks", None)
        return Heap(
            self._file, heap, table, offsets, frame.rows, width, self._coder, self._check, self._cache
        )

    def _open_column(
        self, column: Column, decode: Decode, codecs: Mapping[str, Codec] | None, allow_pickle: bool
    ) -> ColumnReader:
        name, view, rows = self._file.name, self._file.view, self._frame.rows
        if self._heap is not None and column.kind == "variable":
            decoder: Decoder = value_decoder(column, decode, codecs, allow_pickle)
            return VariableColumn(column, self._heap, self._variable.index(column.name), decoder, name)
        blocks = self._blocks("values", column.name)
        if column.kind == "fixed":
            return FixedColumn(view, column, blocks, rows, name)
        return StreamColumn(view, column, blocks, self._table("documents", column.name), rows, name)

    def _blocks(self, role: str, column: str | None) -> Blocks:
        section = self._frame.sections.get((role, column))
        if section is None:
            raise FormatError(f"shard {self._file.name} has no section {role!r} of column {column!r}")
        return Blocks(self._file, section, self._coder, self._check, self._cache)

    def _table(self, role: str, column: str | None) -> Table:
        blocks = self._blocks(role, column)
        if blocks.section.raw_size % 8 or blocks.section.block_bytes % 8:
            raise FormatError(f"shard {self._file.name}: section {role!r} is no table of numbers")
        return Table(blocks, self._file.view)


def _nothing() -> None:
    """What is in memory stays there."""
