"""Read one shard through a memory map: each block is checked when first touched, nothing copied unasked."""

import json
import mmap
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt

from blixt.data.errors import CorruptionError, DataError, DatasetNotFoundError, FormatError
from blixt.data.schema import Column, Schema, unflatten
from blixt.data.shard.layout import BLOCK, END_MAGIC, HEADER, MAGIC, MAJOR, TRAILER, Section, crc32c, padding

Array = npt.NDArray[Any]
_PYTHON_SCALARS = ("int", "float", "bool")


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
        self.path = Path(path)
        self._map = _map_file(self.path)
        self._bytes = np.frombuffer(self._map, np.uint8)
        self.dataset_id = _read_header(self._map, self.path)
        self.footer_crc, footer = _read_footer(self._map, self.path)
        self.rows: int = footer["rows"]
        self.schema = Schema.from_json(footer)
        self._crc_block: int = footer["crc_block_bytes"]
        self.sections = [Section.from_json(section) for section in footer["sections"]]
        self._by_key = {(section.role, section.column): section for section in self.sections}
        self._unchecked = {
            key: bytearray([check]) * len(section.crc32c)
            for key, section in self._by_key.items()
            if section.crc32c
        }
        self._columns = {column.name: column for column in self.schema.columns}
        self._variable = [column for column in self.schema.columns if column.kind == "variable"]
        self._values = {
            name: self._array(column) for name, column in self._columns.items() if column.kind != "variable"
        }
        self._open_heap(check)

    def fixed(self, name: str) -> Array:
        """Return a fixed column as a mapped array of shape `[rows, *shape]`, checked and not copied."""
        self._check_all("values", name)
        return self._values[name]

    def stream(self, name: str, start: int, stop: int) -> Array:
        """Return the tokens `[start, stop)` of a stream column, a mapped 1-D array."""
        self._check("values", name, start, stop, self._values[name].itemsize)
        return self._values[name][start:stop]

    def documents(self, name: str) -> npt.NDArray[np.uint64]:
        """Return the `rows + 1` document offsets of a stream column."""
        self._check_all("documents", name)
        section = self._by_key["documents", name]
        return self._view(section, np.dtype("<u8"))

    def copy_stream(self, name: str, start: int, out: Array) -> None:
        """Fill `out` with the tokens from `start` on, converted to its type in the same pass."""
        stop = start + len(out)
        values = self._values[name]
        self._check("values", name, start, stop, values.itemsize)
        out[:] = values[start:stop]

    def gather(self, name: str, rows: npt.NDArray[np.int64]) -> Array | list[Any]:
        """Return the column's values at the rows: a stacked array for a fixed column, else a list."""
        column = self._columns[name]
        if column.kind == "fixed":
            values = self._values[name]
            row_bytes = values.itemsize * int(np.prod(values.shape[1:]))
            if 1 in self._unchecked.get(("values", name), b""):
                for row in rows.tolist():
                    self._check("values", name, row, row + 1, row_bytes)
            return values[rows]
        if column.kind == "stream":
            return [self._document(name, int(row)) for row in rows]
        index = self._variable.index(column)
        return [self._decode(column, self._variable_bytes(int(row), index)) for row in rows]

    def sample(self, row: int) -> Any:
        """Return one sample as it was written; arrays are copies."""
        return unflatten(
            self.schema.structure, {column.name: self._leaf(column, row) for column in self.schema.columns}
        )

    def verify(self) -> None:
        """Check every byte that a checksum covers.

        Raises:
            CorruptionError: at the first block that does not match.
        """
        for role, column in list(self._unchecked):
            self._unchecked[role, column][:] = b"\1" * len(self._unchecked[role, column])
            self._check_all(role, column)
        if self._variable:
            self._heap_unchecked[:] = True
            for block in range(len(self._blocks)):
                self._check_heap_block(block)
        self._check_padding()

    def _leaf(self, column: Column, row: int) -> Any:
        if column.kind == "variable":
            return self._decode(column, self._variable_bytes(row, self._variable.index(column)))
        if column.kind == "stream":
            return self._document(column.name, row)
        values = self._values[column.name]
        row_bytes = values.itemsize * int(np.prod(values.shape[1:]))
        self._check("values", column.name, row, row + 1, row_bytes)
        value = values[row]
        if column.type in _PYTHON_SCALARS:
            return value.item()
        return value.copy() if column.shape else value

    def _document(self, name: str, row: int) -> Array:
        offsets = self.documents(name)
        return self.stream(name, int(offsets[row]), int(offsets[row + 1])).copy()

    def _decode(self, column: Column, stored: memoryview) -> Any:
        if column.type == "utf8":
            return str(stored, "utf-8")
        if column.type == "bytes":
            return bytes(stored)
        ndim = int(np.frombuffer(stored, "<u8", 1)[0])
        shape = np.frombuffer(stored, "<u8", ndim, 8).astype(int)
        return np.frombuffer(stored, np.dtype(column.dtype), offset=8 + 8 * ndim).reshape(shape).copy()

    def _variable_bytes(self, row: int, index: int) -> memoryview:
        self._check_heap_block(int(np.searchsorted(self._block_rows, row, "right")) - 1)
        at = row * len(self._variable) + index
        base = self._heap.offset
        return memoryview(self._map)[base + int(self._offsets[at]) : base + int(self._offsets[at + 1])]

    def _open_heap(self, check: bool) -> None:
        if not self._variable:
            return
        self._check_all("heap_blocks", None)
        self._check_all("heap_offsets", None)
        self._heap = self._by_key["heap", None]
        self._blocks = self._view(self._by_key["heap_blocks", None], BLOCK)
        self._offsets = self._view(self._by_key["heap_offsets", None], np.dtype("<u8"))
        self._block_rows = self._blocks["first_row"].astype(np.int64)
        self._heap_unchecked = np.full(len(self._blocks), check)
        if (self._blocks["codec"] != 0).any():
            raise FormatError(
                f"shard {self.path} has compressed blocks, which this version of blixt cannot read"
            )

    def _array(self, column: Column) -> Array:
        dtype = np.dtype(column.dtype).newbyteorder("<")
        flat = self._view(self._by_key["values", column.name], dtype)
        return flat if column.kind == "stream" else flat.reshape(self.rows, *column.shape)

    def _view(self, section: Section, dtype: np.dtype[Any]) -> Array:
        return self._bytes[section.offset : section.offset + section.size].view(dtype)

    def _check_all(self, role: str, column: str | None) -> None:
        self._check(role, column, 0, self._by_key[role, column].size, 1)

    def _check(self, role: str, column: str | None, start: int, stop: int, item_bytes: int) -> None:
        """Verify the blocks under the items `[start, stop)` of a section that were not verified before."""
        unchecked = self._unchecked.get((role, column))
        if unchecked is None or stop * item_bytes <= start * item_bytes:
            return
        section = self._by_key[role, column]
        first, last = start * item_bytes // self._crc_block, (stop * item_bytes - 1) // self._crc_block
        while (block := unchecked.find(1, first, last + 1)) >= 0:
            low = section.offset + block * self._crc_block
            high = min(low + self._crc_block, section.offset + section.size)
            self._compare(low, high, section.crc32c[block], f"block {block} of {role} {column or ''}".strip())
            unchecked[block] = 0

    def _check_padding(self) -> None:
        """Bytes between the sections carry nothing and have no checksum; they must be zero."""
        for section in self.sections:
            low = section.offset + section.size
            high = low + padding(low)
            if any(self._map[low:high]):
                raise CorruptionError(
                    f"shard {self.path}: the padding is damaged, bytes {low} to {high} are not zero"
                )

    def _check_heap_block(self, block: int) -> None:
        if not self._heap_unchecked[block]:
            return
        entry = self._blocks[block]
        low = self._heap.offset + int(entry["offset"])
        self._compare(low, low + int(entry["size"]), int(entry["crc32c"]), f"heap block {block}")
        self._heap_unchecked[block] = False

    def _compare(self, low: int, high: int, expected: int, what: str) -> None:
        found = crc32c(memoryview(self._map)[low:high])
        if found != expected:
            raise CorruptionError(
                f"shard {self.path}: {what} is damaged, bytes {low} to {high} have crc32c {found:#010x} and "
                "not "
                f"{expected:#010x}; restore the file from a copy or build it again"
            )


def _map_file(path: Path) -> mmap.mmap:
    try:
        with open(path, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise DatasetNotFoundError(
            f"shard {path} is missing; restore it from a copy or build it again"
        ) from None
    except OSError as problem:
        raise DataError(
            f"cannot open shard {path}: {problem.strerror}; check its permissions and ulimit -n"
        ) from None
    except ValueError:
        raise FormatError(f"shard {path} is empty; restore it from a copy or build it again") from None


def _read_header(data: mmap.mmap, path: Path) -> UUID:
    if len(data) < HEADER.size + TRAILER.size or data[: len(MAGIC)] != MAGIC:
        raise FormatError(f"{path} is not a blixt shard: it does not start with {MAGIC.decode()}")
    _, major, _, _, dataset_id, crc = HEADER.unpack(data[: HEADER.size])
    if crc32c(data[: HEADER.size - 4]) != crc:
        raise CorruptionError(f"shard {path}: the header is damaged, bytes 0 to {HEADER.size}")
    if major != MAJOR:
        raise FormatError(
            f"shard {path} has format version {major}, this blixt reads version {MAJOR}; upgrade blixt"
        )
    return UUID(bytes=dataset_id)


def _read_footer(data: mmap.mmap, path: Path) -> tuple[int, dict[str, Any]]:
    length, crc, magic = TRAILER.unpack(data[-TRAILER.size :])
    end = len(data) - TRAILER.size
    if magic != END_MAGIC or length > end - HEADER.size:
        raise FormatError(f"shard {path} was cut short or not finished: its end mark is missing")
    footer = data[end - length : end]
    if crc32c(footer) != crc:
        raise CorruptionError(f"shard {path}: the footer is damaged, bytes {end - length} to {end}")
    return crc, json.loads(footer)
