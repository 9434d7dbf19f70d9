"""The heap as it is written: rows gather in a block, full blocks go to the file at once."""

from array import array
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from blixt.data.shard.coder import BlockCoder
from blixt.data.shard.layout import HEAP_BLOCK, HEAP_BLOCK_BYTES, PACKED_HEAP_BLOCK_BYTES, crc32c


class HeapWriter:
    """Write rows of variable-length values in blocks of whole rows.

    Args:
        file: where the blocks go, standing where the heap begins.
        coder: packs blocks.
        number: the heap's section number.
    """

    def __init__(self, file: BinaryIO, coder: BlockCoder, number: int) -> None:
        self._file, self._coder, self._number = file, coder, number
        self._block_bytes = PACKED_HEAP_BLOCK_BYTES if coder.packs else HEAP_BLOCK_BYTES
        self._table: list[tuple[int, int, int, int, int]] = []
        self._offsets = array("Q", [0])
        self._end = 0
        self._open = bytearray()
        self._rows = self._first_row = 0
        self.size = 0
        self.offset = file.tell()

    @property
    def raw_size(self) -> int:
        """Bytes of all values."""
        return self._end

    @property
    def is_packed(self) -> bool:
        """Whether some block is not stored as it is."""
        return any(codec for *_, codec in self._table)

    def add_row(self, values: Sequence[Any]) -> None:
        """Add the values of one row, side by side."""
        end = self._end
        for value in values:
            self._open += value
            end += len(value)
            self._offsets.append(end)
        self._end = end
        self._rows += 1
        if len(self._open) >= self._block_bytes:
            self._close_block()

    def finish(self) -> None:
        """Write the block that is open."""
        if self._rows > self._first_row:
            self._close_block()

    def table(self) -> bytes:
        """Return the block table as it is stored."""
        return np.array(self._table, HEAP_BLOCK).tobytes()

    def offsets(self) -> npt.NDArray[np.uint64]:
        """Return where each value begins, and the end of the last."""
        return np.array(self._offsets, "<u8")

    def _close_block(self) -> None:
        raw = self._open
        codec, stored = self._coder.encode(raw, self._number, len(self._table))
        self._file.write(stored)
        self._table.append((self._first_row, len(raw), len(stored), crc32c(stored), codec))
        self.size += len(stored)
        self._first_row = self._rows
        self._open = bytearray()
