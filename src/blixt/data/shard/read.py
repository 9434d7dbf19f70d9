"""Read one shard through a memory map: nothing is copied unasked, and nothing damaged is handed out."""

from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt

from blixt.data.schema import Column, Schema, unflatten
from blixt.data.shard.columns import Array, ColumnReader, FixedColumn, Heap, StreamColumn, VariableColumn
from blixt.data.shard.mapped import Checked, MappedFile


class ShardReader:
    """One mapped shard.

    Args:
        path: the `.shard` file.
        check: verify a block's checksum when it is first read; the file's frame is always verified.

    Raises:
        DatasetNotFoundError: when the file is not there.
        FormatError: when it is no shard, was cut short, or has a version this reader does not know.
        CorruptionError: when the header or the footer do not match their checksum.
    """

    def __init__(self, path: str | Path, *, check: bool = True) -> None:
        self._file = MappedFile(Path(path))
        self.schema = Schema.from_json(self._file.footer)
        self._sections = {(section.role, section.column): section for section in self._file.sections}
        self._variable = [column.name for column in self.schema.columns if column.kind == "variable"]
        self._heap = self._open_heap(check) if self._variable else None
        self._columns = {column.name: self._open_column(column, check) for column in self.schema.columns}

    @property
    def rows(self) -> int:
        """How many samples the shard holds."""
        return self._file.footer["rows"]

    @property
    def dataset_id(self) -> UUID:
        """The dataset that the shard was written for."""
        return self._file.dataset_id

    @property
    def footer_crc(self) -> int:
        """The checksum of the footer, by which a snapshot knows the shard."""
        return self._file.footer_crc

    def sample(self, row: int) -> Any:
        """Return one sample as it was written; arrays are copies."""
        leaves = {name: column.one(row) for name, column in self._columns.items()}
        return unflatten(self.schema.structure, leaves)

    def gather(self, name: str, rows: npt.NDArray[np.int64]) -> Array | list[Any]:
        """Return a column's values at the rows: a stacked array for a fixed column, else a list."""
        return self._columns[name].many(rows)

    def fixed(self, name: str) -> Array:
        """Return a fixed column as a mapped array of shape `[rows, *shape]`, checked and not copied.

        Raises:
            KeyError: when there is no such fixed column.
        """
        column = self._columns[name]
        if not isinstance(column, FixedColumn):
            raise KeyError(f"{name} is not a fixed column of shard {self._file.path}")
        return column.array()

    def stream(self, name: str) -> StreamColumn:
        """Return a stream column: its tokens by number, and its document offsets.

        Raises:
            KeyError: when there is no such stream column.
        """
        column = self._columns[name]
        if not isinstance(column, StreamColumn):
            raise KeyError(f"{name} is not a stream column of shard {self._file.path}")
        return column

    def verify(self) -> None:
        """Check every byte of the file.

        Raises:
            CorruptionError: at the first block that does not match.
        """
        for column in self._columns.values():
            if isinstance(column, (FixedColumn, StreamColumn)):
                column.verify()
        if self._heap is not None:
            self._heap.verify()
        self._file.check_padding()

    def _open_heap(self, check: bool) -> Heap:
        tables = self._checked("heap_blocks", None, check), self._checked("heap_offsets", None, check)
        return Heap(self._file, len(self._variable), *tables, self._sections["heap", None].offset, check)

    def _open_column(self, column: Column, check: bool) -> ColumnReader:
        if self._heap is not None and column.kind == "variable":
            return VariableColumn(column, self._heap, self._variable.index(column.name))
        values = self._checked("values", column.name, check)
        if column.kind == "fixed":
            return FixedColumn(self._file, column, values)
        return StreamColumn(self._file, column, values, self._checked("documents", column.name, check))

    def _checked(self, role: str, column: str | None, check: bool) -> Checked:
        return Checked(self._file, self._sections[role, column], check)
