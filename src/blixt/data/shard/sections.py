"""Write the sections of a shard and note in the footer where they are."""

from typing import Any, BinaryIO

from blixt.data.shard.coder import BlockCoder
from blixt.data.shard.heap_write import HeapWriter
from blixt.data.shard.layout import crc32c, grain, padding


class SectionWriter:
    """Writes aligned sections one after the other and keeps their entries for the footer."""

    def __init__(self, file: BinaryIO, coder: BlockCoder) -> None:
        self._file, self._coder = file, coder
        self.entries: list[dict[str, Any]] = []

    def add_heap(self, heap: HeapWriter) -> None:
        """Close the section that a `HeapWriter` filled; it must be the first one."""
        heap.finish()
        self._file.write(bytes(padding(heap.offset + heap.size)))
        packed = {"raw_size": heap.raw_size} if heap.is_packed else {}
        self._note("heap", None, heap.offset, heap.size, grain(1, heap.is_packed), crc32c=[], **packed)

    def add(self, role: str, column: str | None, data: Any, row_bytes: int = 1, *, pack: bool = True) -> None:
        """Write one array, in blocks of whole rows."""
        coder = self._coder if pack else BlockCoder()
        block_bytes, number = grain(row_bytes, coder.packs), len(self.entries)
        raw = memoryview(data).cast("B")
        crcs: list[int] = []
        sizes: list[int] = []
        codecs: list[int] = []
        offset = self._file.tell()
        for block, start in enumerate(range(0, len(raw), block_bytes)):
            codec, stored = coder.encode(raw[start : start + block_bytes], number, block)
            self._file.write(stored)
            crcs.append(crc32c(stored))
            sizes.append(len(stored))
            codecs.append(codec)
        size = sum(sizes)
        self._file.write(bytes(padding(offset + size)))
        packed = {"raw_size": len(raw), "sizes": sizes, "codecs": codecs} if any(codecs) else {}
        self._note(role, column, offset, size, block_bytes, crc32c=crcs, **packed)

    def _note(
        self, role: str, column: str | None, offset: int, size: int, block_bytes: int, **more: Any
    ) -> None:
        self.entries.append(
            {
                "role": role,
                "column": column,
                "offset": offset,
                "size": size,
                "block_bytes": block_bytes,
                **more,
            }
        )
