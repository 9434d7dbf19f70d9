"""Write one shard: the file appears under its name whole or not at all."""

import json
import os
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self
from uuid import UUID, uuid4

import numpy as np

from blixt.data.crypto import Cipher, Encryption, cipher_for_writing
from blixt.data.encode import compile_encoder
from blixt.data.errors import DataError, SchemaError, WriteError
from blixt.data.key_of import KeyOf
from blixt.data.key_segment import KeyLog
from blixt.data.schema import Schema, infer
from blixt.data.shard.coder import BlockCoder, zstd_level
from blixt.data.shard.heap_write import HeapWriter
from blixt.data.shard.info import ShardInfo
from blixt.data.shard.layout import END_MAGIC, HEADER, MAGIC, MAJOR, MINOR, TRAILER, crc32c
from blixt.data.shard.sections import SectionWriter
from blixt.data.shard.stats import number_stats, value_stats

__all__ = ["ShardInfo", "ShardWriter"]


class ShardWriter:
    """Write samples to one `.shard` file.

    Variable columns go to a temporary file beside the name, block by block; numbers and tokens gather in
    memory. `close` (or the end of a `with` block) completes the file, syncs it and gives it its name. Leaving
    the block by an exception, or a crash, leaves no file of that name.

    Args:
        path: the file to make.
        schema: the columns; inferred from the first sample when None.
        dataset_id: the id of the dataset that the shard belongs to; a fresh one when None.
        compress: `"zstd"` or `"zstd:LEVEL"` packs blocks where that saves more than 5 %.
        encrypt: seals every block with AES-256-GCM.
        key: the field that is the key of each sample, or a function from a sample to it; the keys are noted
            beside the shard (`NAME.keys`) until `collect_keys` gathers them.
        allow_pickle: store `Pickle(...)` values, which a reader must allow too.
        meta: anything that JSON can say, noted in the footer.

    Raises:
        ValueError: for a compression that does not exist.

    Example:
        >>> import tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "words.shard")
        >>> with ShardWriter(path) as writer:
        ...     writer.write({"word": "blixt", "length": 5})
        >>> os.path.getsize(path) > 0
        True
    """

    def __init__(
        self,
        path: str | Path,
        *,
        schema: Schema | None = None,
        dataset_id: UUID | None = None,
        compress: str | None = None,
        encrypt: Encryption | None = None,
        key: KeyOf | None = None,
        allow_pickle: bool = False,
        meta: dict[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        self.schema = schema
        self.rows = 0
        self.size_bytes = 0
        self.info: ShardInfo | None = None
        self.dataset_id = dataset_id or uuid4()
        self._level, self._encrypt, self._allow_pickle = zstd_level(compress), encrypt, allow_pickle
        self._keys = None if key is None else KeyLog(key)
        self._meta = meta or {}
        self._closed = False
        self._here = _Here(self)
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        self._file: BinaryIO | None = None
        self._cipher: Cipher | None = None
        if schema is not None:
            self._compile(schema)

    def write(self, sample: Any, where: object = None) -> None:
        """Add one sample.

        Args:
            sample: a tree of dicts, lists and tuples of storable leaves.
            where: how an error should name the sample, only made a text then; its number by default.

        Raises:
            SchemaError: when the sample does not fit the columns; the writer is unchanged then.
            WriteError: when the disk refuses.
        """
        if self._closed:
            raise DataError(f"cannot write to {self.path}: the writer is closed")
        if self.schema is None:
            schema = infer(sample, str(where or self._here))
            self._compile(schema)
            self.schema = schema
        values = self._encode(sample, where or self._here)
        if self._keys is not None:
            self._keys.note(sample, where or self._here)
        self.write_values(values)

    def write_values(self, values: Sequence[Any]) -> None:
        """Add one sample that is encoded already: what `compile_encoder` gives, one value per column.

        Raises:
            WriteError: when the disk refuses.
        """
        for index in self._fixed:
            value = values[index]
            self._arrays[index] += value
            self.size_bytes += len(value)
        for index in self._streams:
            value = values[index]
            self._arrays[index] += value.tobytes()
            self._documents[index].append(self._documents[index][-1] + len(value))
            self.size_bytes += value.nbytes
        if self._variable:
            heap = self._heap or self._start()
            before = heap.raw_size
            try:
                heap.add_row([values[index] for index in self._variable])
            except OSError as problem:
                raise self._cannot_write(problem) from problem
            self.size_bytes += heap.raw_size - before
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
        if self._file is None:
            self._start()
        assert self._file is not None
        try:
            footer_crc = self._finish(self._file, self.schema)
            size_bytes = self._file.tell()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            if self._keys is not None:
                self._keys.save(self.path, self.dataset_id, self._encrypt)
            os.rename(self._temporary, self.path)
        except OSError as problem:
            raise self._cannot_write(problem) from problem
        finally:
            self._drop()
        tokens = {self.schema.columns[index].name: self._documents[index][-1] for index in self._streams}
        self.info = ShardInfo(self.path.name, self.rows, size_bytes, footer_crc, tokens)
        return self.info

    def discard(self) -> None:
        """Forget the samples; no file is left."""
        self._closed = True
        self._drop()

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
        pickled = [column.name for column in schema.columns if column.type == "pickle"]
        if pickled and not self._allow_pickle:
            raise SchemaError(
                f"field {pickled[0]!r} would be stored as a pickle, which runs code when it is read; "
                "pass allow_pickle=True to the writer and to every reader, or store it as something else"
            )
        self._encode = compile_encoder(schema)
        kinds = [column.kind for column in schema.columns]
        self._fixed = [index for index, kind in enumerate(kinds) if kind == "fixed"]
        self._streams = [index for index, kind in enumerate(kinds) if kind == "stream"]
        self._variable = [index for index, kind in enumerate(kinds) if kind == "variable"]
        self._arrays = [bytearray() for _ in kinds]
        self._documents = [[0] for _ in kinds]
        self._heap: HeapWriter | None = None

    def _start(self) -> HeapWriter:
        """Open the temporary file; the heap, which is written on the way, comes right after the header."""
        self._cipher = None if self._encrypt is None else cipher_for_writing(self._encrypt)
        self._coder = BlockCoder(self._level, self._cipher)
        head = HEADER.pack(MAGIC, MAJOR, MINOR, 0, self.dataset_id.bytes, 0)[:-4]
        try:
            self._file = open(self._temporary, "wb")  # noqa: SIM115  held open until close or discard
            self._file.write(head + crc32c(head).to_bytes(4, "little"))
        except OSError as problem:
            raise self._cannot_write(problem) from problem
        self._heap = HeapWriter(self._file, self._coder, 0)
        return self._heap

    def _finish(self, file: BinaryIO, schema: Schema) -> int:
        """Write all but the heap's full blocks; tables and footer come last, where one read finds them."""
        sections = SectionWriter(file, self._coder)
        if self._heap is not None and self._variable:
            sections.add_heap(self._heap)
        for index in (*self._fixed, *self._streams):
            column = schema.columns[index]
            row_bytes = len(self._arrays[index]) // self.rows if index in self._fixed and self.rows else 8
            sections.add("values", column.name, self._arrays[index], row_bytes)
        for index in self._streams:
            sections.add("documents", schema.columns[index].name, np.array(self._documents[index], "<u8"), 8)
        if self._heap is not None and self._variable:
            sections.add("heap_offsets", None, self._heap.offsets(), 8)
            sections.add("heap_blocks", None, self._heap.table(), pack=False)
        footer = json.dumps(self._footer(schema, sections.entries), separators=(",", ":")).encode()
        footer_crc = crc32c(footer)
        file.write(footer + TRAILER.pack(len(footer), footer_crc, END_MAGIC))
        return footer_crc

    def _footer(self, schema: Schema, sections: list[dict[str, Any]]) -> dict[str, Any]:
        footer: dict[str, Any] = {
            "format_version": [MAJOR, MINOR],
            "writer": f"blixt {_version()}",
            "dataset_id": str(self.dataset_id),
            "rows": self.rows,
            **schema.to_json(),
            "sections": sections,
        }
        if self._cipher is None or self._encrypt is None:
            footer["stats"] = self._stats(schema)
        else:
            footer["encryption"] = {
                "cipher": "AES-256-GCM",
                "key_id": self._encrypt.key_id,
                "salt": self._cipher.salt.hex(),
                "check": self._cipher.check,
            }
        return footer | ({"meta": self._meta} if self._meta else {})

    def _stats(self, schema: Schema) -> dict[str, Any]:
        stats = {
            schema.columns[index].name: number_stats(schema.columns[index], self._arrays[index])
            for index in (*self._fixed, *self._streams)
        }
        if self._heap is not None and self._variable:
            found = value_stats(self._heap.offsets(), len(self._variable))
            stats |= {
                schema.columns[index].name: one for index, one in zip(self._variable, found, strict=True)
            }
        return stats

    def _drop(self) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError:  # a full disk refuses the buffer again; the file goes anyway
                pass
        self._temporary.unlink(missing_ok=True)

    def _cannot_write(self, problem: OSError) -> WriteError:
        return WriteError(
            f"cannot write shard {self.path}: {problem.strerror or problem}; "
            "make room or choose another folder, then run again"
        )


class _Here:
    """Names the sample that is being written, when an error asks."""

    def __init__(self, writer: ShardWriter) -> None:
        self._writer = writer

    def __str__(self) -> str:
        return f"sample {self._writer.rows}"


@cache
def _version() -> str:
    try:
        return version("blixt")
    except PackageNotFoundError:
        return "unknown"
