"""Write one shard: samples gather in memory, then the file appears under its name whole or not at all."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self
from uuid import UUID, uuid4

import numpy as np

from blixt.data.encode import compile_encoder
from blixt.data.errors import DataError, WriteError
from blixt.data.schema import Column, Schema, infer
from blixt.data.shard.layout import (
    BLOCK,
    CRC_BLOCK_BYTES,
    END_MAGIC,
    HEADER,
    HEAP_BLOCK_BYTES,
    MAGIC,
    MAJOR,
    MINOR,
    TRAILER,
    Section,
    block_crcs,
    crc32c,
    padding,
)


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """What a dataset's snapshot records of one shard; `tokens` counts each stream column."""

    file: str
    rows: int
    size_bytes: int
    crc32c: int
    tokens: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return the entry as the snapshot stores it."""
        return {
            "file": self.file,
            "rows": self.rows,
            "size_bytes": self.size_bytes,
            "crc32c": self.crc32c,
            "tokens": self.tokens,
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "ShardInfo":
        """Read an entry from the snapshot."""
        return cls(stored["file"], stored["rows"], stored["size_bytes"], stored["crc32c"], stored["tokens"])


class ShardWriter:
    """Write samples to one `.shard` file.

    The file is published by `close` (or the end of a `with` block): written beside its name, synced, renamed.
    Leaving the block by an exception, or a crash, leaves no file of that name.

    Args:
        path: the file to make.
        schema: the columns; inferred from the first sample when None.
        dataset_id: the id of the dataset that the shard belongs to; a fresh one when None.

    Example:
        >>> import tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "words.shard")
        >>> with ShardWriter(path) as writer:
        ...     writer.write({"word": "blixt", "length": 5})
        >>> os.path.getsize(path) > 0
        True
    """

    def __init__(
        self, path: str | Path, *, schema: Schema | None = None, dataset_id: UUID | None = None
    ) -> None:
        self.path = Path(path)
        self.schema = schema
        self.rows = 0
        self.size_bytes = 0
        self.info: ShardInfo | None = None
        self._dataset_id = dataset_id or uuid4()
        self._closed = False
        if schema is not None:
            self._compile(schema)

    def write(self, sample: Any, where: str | None = None) -> None:
        """Add one sample.

        Args:
            sample: a tree of dicts, lists and tuples of storable leaves.
            where: how an error should name the sample; its number by default.

        Raises:
            SchemaError: when the sample does not fit the columns; the writer is unchanged then.
        """
        if self._closed:
            raise DataError(f"cannot write to {self.path}: the writer is closed")
        where = where or f"sample {self.rows}"
        if self.schema is None:
            self.schema = infer(sample, where)
            self._compile(self.schema)
        values = self._encode(sample, where)
        for index in self._fixed:
            self._arrays[index] += values[index]
            self.size_bytes += len(values[index])
        for index in self._streams:
            self._arrays[index] += values[index].tobytes()
            self._documents[index].append(self._documents[index][-1] + len(values[index]))
            self.size_bytes += values[index].nbytes
        if self._variable:
            self._heap.add_row([values[index] for index in self._variable])
            self.size_bytes += sum(len(values[index]) for index in self._variable)
        self.rows += 1

    def close(self) -> ShardInfo:
        """Publish the file and return what a snapshot records of it.

        Raises:
            WriteError: when the disk refuses; nothing is left under the shard's name then.
        """
        if self.info is not None:
            return self.info
        if self.schema is None:
            raise DataError(f"cannot write {self.path}: it has no samples, so its columns are unknown")
        self._closed = True
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            with open(temporary, "wb") as file:
                footer_crc = self._write_file(file, self.schema)
                size_bytes = file.tell()
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, self.path)
        except OSError as problem:
            raise WriteError(
                f"cannot write shard {self.path}: {problem.strerror or problem}; "
                "make room or choose another folder, then run again"
            ) from problem
        finally:
            temporary.unlink(missing_ok=True)
        tokens = {self.schema.columns[index].name: self._documents[index][-1] for index in self._streams}
        self.info = ShardInfo(self.path.name, self.rows, size_bytes, footer_crc, tokens)
        return self.info

    def discard(self) -> None:
        """Forget the samples; no file is made."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def _compile(self, schema: Schema) -> None:
        self._encode = compile_encoder(schema)
        kinds = [column.kind for column in schema.columns]
        self._fixed = [index for index, kind in enumerate(kinds) if kind == "fixed"]
        self._streams = [index for index, kind in enumerate(kinds) if kind == "stream"]
        self._variable = [index for index, kind in enumerate(kinds) if kind == "variable"]
        self._arrays = [bytearray() for _ in kinds]
        self._documents = [[0] for _ in kinds]
        self._heap = _Heap()

    def _write_file(self, file: BinaryIO, schema: Schema) -> int:
        head = HEADER.pack(MAGIC, MAJOR, MINOR, 0, self._dataset_id.bytes, 0)[:-4]
        file.write(head + crc32c(head).to_bytes(4, "little"))
        sections: list[Section] = []
        for index, column in enumerate(schema.columns):
            sections += self._write_column(file, index, column)
        if self._variable:
            blocks, offsets = self._heap.finish()
            sections.append(_write_heap(file, self._heap.blocks))
            sections.append(_write_section(file, "heap_blocks", None, blocks))
            sections.append(_write_section(file, "heap_offsets", None, offsets))
        footer = json.dumps(
            {
                "rows": self.rows,
                **schema.to_json(),
                "crc_block_bytes": CRC_BLOCK_BYTES,
                "sections": [section.to_json() for section in sections],
            },
            separators=(",", ":"),
        ).encode()
        footer_crc = crc32c(footer)
        file.write(footer)
        file.write(TRAILER.pack(len(footer), footer_crc, END_MAGIC))
        return footer_crc

    def _write_column(self, file: BinaryIO, index: int, column: Column) -> list[Section]:
        if column.kind == "variable":
            return []
        sections = [_write_section(file, "values", column.name, self._arrays[index])]
        if column.kind == "stream":
            documents = np.array(self._documents[index], "<u8").tobytes()
            sections.append(_write_section(file, "documents", column.name, documents))
        return sections


class _Heap:
    """Rows of variable-length values, row after row, cut into blocks of whole rows."""

    def __init__(self) -> None:
        self.blocks: list[bytearray] = []
        self._table: list[tuple[int, int, int, int, int]] = []
        self._offsets = [0]
        self._open = bytearray()
        self._rows = 0
        self._first_row = 0
        self._start = 0

    def add_row(self, values: Sequence[bytes]) -> None:
        for value in values:
            self._open += value
            self._offsets.append(self._offsets[-1] + len(value))
        self._rows += 1
        if len(self._open) >= HEAP_BLOCK_BYTES:
            self._close_block()

    def finish(self) -> tuple[bytes, bytes]:
        if self._rows > self._first_row:
            self._close_block()
        return np.array(self._table, BLOCK).tobytes(), np.array(self._offsets, "<u8").tobytes()

    def _close_block(self) -> None:
        block = self._open
        self._table.append((self._first_row, self._start, len(block), crc32c(block), 0))
        self.blocks.append(block)
        self._first_row, self._start = self._rows, self._start + len(block)
        self._open = bytearray()


def _write_section(file: BinaryIO, role: str, column: str | None, data: bytes | bytearray) -> Section:
    """Write one aligned section with a checksum for each of its blocks."""
    return Section(role, column, *_write_aligned(file, [data]), block_crcs(memoryview(data)))


def _write_heap(file: BinaryIO, blocks: Sequence[bytearray]) -> Section:
    """Write the heap, whose checksums are in its own block table."""
    return Section("heap", None, *_write_aligned(file, blocks), ())


def _write_aligned(file: BinaryIO, parts: Sequence[bytes | bytearray]) -> tuple[int, int]:
    """Write the parts, and zeros up to the next section; return where they begin and their size."""
    offset = file.tell()
    for part in parts:
        file.write(part)
    size = file.tell() - offset
    file.write(bytes(padding(offset + size)))
    return offset, size
