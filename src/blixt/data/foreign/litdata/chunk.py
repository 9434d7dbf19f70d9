"""One chunk file of LitData in each of its layouts, opened from the bytes of the file.

- items: `u32 n`, `u32 offsets[n + 1]` from the start of the file, the items; perhaps each item compressed
  with zstd and/or encrypted. An item of several leaves begins with a u32 size for each.
- framed: `LDFZ01\\0\\0`, u16 version, u16 flags, `u32 n, k, frames`, `u32 offsets[n + 1]` into the unpacked
  items, per frame `u32 first, u32 items, u64 offset, u32 length, u32 unpacked length`; a frame is zstd.
- rows: the file ends in an Arrow IPC file or stream, its u32 length, and `LDARW01\\0`; the items are empty.

All little-endian. Around any of them there may be whole-file encryption, and around that zstd.
"""

import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np

from blixt.data.errors import FormatError
from blixt.data.foreign import arrow
from blixt.data.foreign.optional import need

FRAMED_MAGIC = b"LDFZ01\0\0"
ROWS_MAGIC = b"LDARW01\0"
_FRAMED = struct.Struct("<8sHHIII")
_FRAME = np.dtype([("first", "<u4"), ("count", "<u4"), ("at", "<u8"), ("size", "<u4"), ("raw", "<u4")])
_KEPT_BATCHES = 4
Filter = Callable[[memoryview], bytes | memoryview]


class Chunk(Protocol):
    """An open chunk."""

    count: int

    def read(self, rows: Iterable[int], stored: bool) -> list[Any]:
        """Return rows: the bytes of items, or samples (`stored`: for our writer) of a chunk of Arrow rows."""
        ...


def open_chunk(content: memoryview, where: str, item_filter: Filter) -> Chunk:
    """Open a chunk from its (decrypted, unpacked) content.

    Args:
        content: the bytes of the file.
        where: names the file in errors.
        item_filter: applied to each item: unpacks and decrypts it.

    Raises:
        FormatError: when it is in none of the layouts.
    """
    try:
        if bytes(content[-8:]) == ROWS_MAGIC:
            return RowChunk(content)
        if bytes(content[:8]) == FRAMED_MAGIC:
            return FramedChunk(content)
        return ItemChunk(content, item_filter)
    except (struct.error, ValueError) as problem:
        raise FormatError(f"{where} is not a chunk of LitData, or is cut short: {problem}") from None


def zstd_unpack(content: memoryview) -> bytes:
    """Unpack one zstd frame, which need not say how long its content is.

    Raises:
        DataError: when zstandard is not installed.
    """
    return need("zstandard", "data").ZstdDecompressor().decompressobj().decompress(content)


class ItemChunk:
    """Items one after the other, behind a table of offsets."""

    def __init__(self, content: memoryview, item_filter: Filter) -> None:
        self.count = struct.unpack_from("<I", content)[0]
        self._offsets = np.frombuffer(content, "<u4", self.count + 1, 4)
        self._content = content
        self._filter = item_filter
        if self.count and not (np.diff(self._offsets.astype(np.int64)) >= 0).all():
            raise ValueError("its offsets go backwards")
        if int(self._offsets[-1]) > len(content):
            raise ValueError(f"it has {len(content)} bytes and names {int(self._offsets[-1])}")

    def read(self, rows: Iterable[int], stored: bool) -> list[Any]:
        """Return the bytes of items."""
        del stored
        offsets = self._offsets
        return [self._filter(self._content[offsets[row] : offsets[row + 1]]) for row in rows]

    def tokens(self, item: np.dtype[Any]) -> np.ndarray[Any, Any]:
        """Return all items as one flat array, mapped."""
        start, end = int(self._offsets[0]), int(self._offsets[-1])
        return np.frombuffer(self._content[start:end], item.newbyteorder("<"))


class FramedChunk:
    """Items in zstd frames of some hundred."""

    def __init__(self, content: memoryview) -> None:
        _, version, _, self.count, self._frame_items, frames = _FRAMED.unpack_from(content)
        if version != 1:
            raise ValueError(f"its framing has version {version}")
        self._offsets = np.frombuffer(content, "<u4", self.count + 1, _FRAMED.size)
        self._frames = np.frombuffer(content, _FRAME, frames, _FRAMED.size + self._offsets.nbytes)
        self._content = content
        self._kept: OrderedDict[int, bytes] = OrderedDict()

    def read(self, rows: Iterable[int], stored: bool) -> list[Any]:
        """Return the bytes of items."""
        del stored
        items: list[Any] = []
        for row in rows:
            frame = row // self._frame_items
            base = int(self._offsets[int(self._frames[frame]["first"])])
            start, end = int(self._offsets[row]) - base, int(self._offsets[row + 1]) - base
            items.append(memoryview(self._frame(frame))[start:end])
        return items

    def _frame(self, number: int) -> bytes:
        if number not in self._kept:
            if len(self._kept) >= _KEPT_BATCHES:
                self._kept.popitem(last=False)
            frame = self._frames[number]
            start = int(frame["at"])
            data = zstd_unpack(self._content[start : start + int(frame["size"])])
            if len(data) != int(frame["raw"]):
                raise FormatError(
                    f"a frame of a chunk of LitData unpacks to {len(data)} bytes, not {frame['raw']}"
                )
            self._kept[number] = data
        return self._kept[number]


class RowChunk:
    """Rows as an Arrow table at the end of the file."""

    def __init__(self, content: memoryview) -> None:
        pa = need("pyarrow", "parquet")
        length = struct.unpack_from("<I", content, len(content) - 12)[0]
        source = pa.py_buffer(content[len(content) - 12 - length : len(content) - 12])
        is_file = bytes(memoryview(source)[:6]) == b"ARROW1"
        reader: Any = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
        self._reader = reader
        self._batches: list[Any] = [None] * reader.num_record_batches if is_file else _checked(reader)
        self._ends: np.ndarray[Any, Any] | None = None
        self.count = struct.unpack_from("<I", content)[0]

    def read(self, rows: Iterable[int], stored: bool) -> list[Any]:
        """Return rows as dicts."""
        if self._ends is None:
            self._ends = np.cumsum([self._batch(number).num_rows for number in range(len(self._batches))])
        numbers = np.fromiter(rows, np.int64)
        samples: list[Any] = [None] * len(numbers)
        batch_of = np.searchsorted(self._ends, numbers, "right")
        for batch in np.unique(batch_of).tolist():
            places = np.flatnonzero(batch_of == batch)
            within = numbers[places] - (int(self._ends[batch - 1]) if batch else 0)
            found = arrow.samples(self._batch(batch).take(within), stored)
            for place, sample in zip(places.tolist(), found, strict=True):
                samples[place] = sample
        return samples

    def _batch(self, number: int) -> Any:
        if self._batches[number] is None:
            self._batches[number] = _checked([self._reader.get_batch(number)])[0]
        return self._batches[number]


def _checked(batches: Iterable[Any]) -> list[Any]:
    """Arrow believes the offsets in a file; damaged ones must not be followed out of its memory."""
    found = list(batches)
    for batch in found:
        batch.validate(full=True)
    return found
