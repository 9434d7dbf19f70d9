"""Blocks of a shard as they are read: brought here, checked once, and unpacked where they are packed."""

import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt

from blixt.data.errors import CorruptionError, DataError, DecryptionError
from blixt.data.filemap import confirm
from blixt.data.shard.coder import BlockCoder
from blixt.data.shard.file import Range, ShardFile
from blixt.data.shard.frame import Section
from blixt.data.shard.layout import crc32c, crc32c_short, crc32cs

Array = npt.NDArray[Any]
DECODED_BYTES = 256 << 20
_LONG_BYTES = 256 << 10
"""Blocks of more bytes are checked without the interpreter lock, so that others go on meanwhile."""


class DecodedCache:
    """Unpacked blocks, the least recently used dropped first; safe to use from several threads.

    Args:
        limit_bytes: how much to keep; the newest block is kept whatever its size.
    """

    def __init__(self, limit_bytes: int = DECODED_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._blocks: OrderedDict[tuple[int, int], memoryview] = OrderedDict()
        self._size_bytes = 0
        self._lock = threading.Lock()

    def get(self, key: tuple[int, int]) -> memoryview | None:
        """Return a block, or None when it is not here (any more)."""
        with self._lock:
            block = self._blocks.get(key)
            if block is not None:
                self._blocks.move_to_end(key)
            return block

    def put(self, key: tuple[int, int], block: memoryview) -> None:
        """Keep a block."""
        with self._lock:
            if key not in self._blocks:
                self._blocks[key] = block
                self._size_bytes += len(block)
            while self._size_bytes > self._limit_bytes and len(self._blocks) > 1:
                self._size_bytes -= len(self._blocks.popitem(last=False)[1])


_serial = count()
_caches: dict[int, DecodedCache] = {}
_caches_lock = threading.Lock()


def decoded_cache(limit_bytes: int = DECODED_BYTES) -> DecodedCache:
    """Return this process's cache, one for all who want the same limit."""
    with _caches_lock:
        return _caches.setdefault(limit_bytes, DecodedCache(limit_bytes))


class Blocks:
    """The blocks of one section.

    Attributes:
        left: whether some block was not brought here and checked yet; False lets the fast paths skip asking.
        plain: whether every block is stored as it is, so that the section may be read in place.
    """

    def __init__(
        self, file: ShardFile, section: Section, coder: BlockCoder, check: bool, cache: DecodedCache
    ) -> None:
        self.section = section
        self.plain = section.codecs is None
        self._file, self._coder, self._check, self._cache = file, coder, check, cache
        self._serial = next(_serial)
        must_look = check or not file.is_local
        self._pending = bytearray([must_look]) * len(section.crcs)
        self.left = 1 in self._pending

    def touch(self, first: int, end: int) -> None:
        """See that the blocks `[first, end)` are here and whole.

        Raises:
            CorruptionError: when one does not match its checksum, naming it.
        """
        find, pending = self._pending.find, list[int]()
        block = find(1, first, end)
        while block >= 0:
            pending.append(block)
            block = find(1, block + 1, end)
        self._admit(pending)

    def touch_one(self, block: int) -> None:
        """See that a block is here and whole."""
        if not self._pending[block]:
            return
        stored = self.section.stored
        if not (self._check and self._file.is_local):
            self._admit([block])
        elif crc32c_short(self._file.view[stored[block] : stored[block + 1]]) == self.section.crcs[block]:
            self._pending[block] = 0
            self.left = 1 in self._pending
        else:
            self._admit([block])

    def touch_some(self, blocks: Iterable[int], *, here: bool = False) -> None:
        """See that these blocks are here (unless that is known) and whole."""
        pending = self._pending
        self._admit([block for block in blocks if pending[block]], here)

    def touch_bytes(self, low: int, high: int) -> None:
        """See that the raw bytes `[low, high)` of a section of even blocks are here and whole."""
        grain = self.section.block_bytes
        self.touch(low // grain, -(-high // grain))

    def content(self, block: int) -> memoryview:
        """Return the raw bytes of a block that was touched."""
        section = self.section
        stored = self._file.view[section.stored[block] : section.stored[block + 1]]
        if section.codecs is None or not section.codecs[block]:
            return stored
        key = (self._serial, block)
        unpacked = self._cache.get(key)
        if unpacked is None:
            unpacked = self._decode(block, section.codecs[block], stored)
            self._cache.put(key, unpacked)
        return unpacked

    def raw(self, low: int, high: int) -> memoryview:
        """Return the raw bytes `[low, high)` of a section of even blocks, copied across packed ones."""
        self.touch_bytes(low, high)
        if self.plain:
            return self._file.view[self.section.offset + low : self.section.offset + high]
        grain = self.section.block_bytes
        first, end = low // grain, -(-high // grain)
        if end - first == 1:
            return self.content(first)[low - first * grain : high - first * grain]
        whole = b"".join(self.content(block) for block in range(first, end))
        return memoryview(whole)[low - first * grain : high - first * grain]

    def unseen(self, blocks: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return which places of an array of blocks name one that was not touched yet."""
        if not self.left:
            return np.zeros(0, np.int64)
        return np.flatnonzero(np.frombuffer(self._pending, np.uint8)[blocks])

    def lacking(self, blocks: Iterable[int]) -> list[Range]:
        """Return where in the file those of the blocks lie that were not read yet."""
        if not self.left:
            return []
        stored, pending = self.section.stored, self._pending
        return [(stored[block], stored[block + 1]) for block in blocks if pending[block]]

    def stored_range(self, first: int, end: int) -> Range:
        """Return where in the file the blocks `[first, end)` lie."""
        return self.section.stored[first], self.section.stored[end]

    def stored_bytes(self, low: int, high: int) -> Range:
        """Return where in the file the blocks of the raw bytes `[low, high)` lie."""
        grain = self.section.block_bytes
        return self.stored_range(low // grain, -(-high // grain))

    def problems(self) -> Iterator[DataError]:
        """Yield what is wrong with each block, looking at all of them again."""
        for block in range(len(self._pending)):
            try:
                self._file.ensure([self.stored_range(block, block + 1)])
                self._compare(block)
                codecs = self.section.codecs
                if codecs is not None and codecs[block]:
                    self._decode(block, codecs[block], self._stored(block))
            except DataError as problem:
                yield problem

    def where(self, block: int) -> str:
        """Name a block in messages."""
        low, high = self.stored_range(block, block + 1)
        return (
            f"shard {self._file.name}: block {block} of {self.section.what} is damaged, bytes {low} to {high}"
        )

    def _stored(self, block: int) -> memoryview:
        return self._file.view[self.section.stored[block] : self.section.stored[block + 1]]

    def _admit(self, blocks: list[int], here: bool = False) -> None:
        if not blocks:
            return
        if not here and not self._file.is_local:
            self._file.ensure([self.stored_range(block, block + 1) for block in blocks])
        crcs, pending = self.section.crcs, self._pending
        if self._check and self._sums(blocks) != [crcs[block] for block in blocks]:
            for block in blocks:
                self._compare(block)
        for block in blocks:
            pending[block] = 0
        self.left = 1 in pending

    def _sums(self, blocks: list[int]) -> list[int]:
        view, stored = self._file.view, self.section.stored
        parts = [view[stored[block] : stored[block + 1]] for block in blocks]
        if len(parts[0]) > _LONG_BYTES:
            return [crc32c(part) for part in parts]
        return crc32cs(parts)

    def _compare(self, block: int) -> None:
        expected = self.section.crcs[block]
        found = crc32c(self._stored(block))
        if found != expected and self._file.refetch(*self.stored_range(block, block + 1)):
            found = crc32c(self._stored(block))
        if found != expected:
            confirm([self._file.view])
            raise CorruptionError(
                f"{self.where(block)} have crc32c {found:#010x} and not {expected:#010x}; "
                "restore the file from a copy or build it again"
            )

    def _decode(self, block: int, codec: int, stored: memoryview) -> memoryview:
        section = self.section
        raw_size = section.raw[block + 1] - section.raw[block]
        try:
            return self._coder.decode(codec, stored, raw_size, section.number, block)
        except DecryptionError as problem:
            raise DecryptionError(f"{self.where(block)}: {problem}") from None
        except DataError as problem:
            raise CorruptionError(f"{self.where(block)}: {problem}; restore the file from a copy") from None


def distinct(numbers: npt.NDArray[np.int64]) -> list[int]:
    """Return the different numbers in order; for the few of a batch a set is quicker than numpy."""
    return sorted(set(numbers.tolist()))


class Table:
    """A section of u64 numbers: mapped where it is plain, else unpacked as a whole when first used."""

    def __init__(self, blocks: Blocks, view: memoryview) -> None:
        self.blocks = blocks
        section = blocks.section
        self._values: Array | None = None
        self._numbers: Sequence[int] | memoryview = ()
        if blocks.plain:
            self._values = np.frombuffer(view, "<u8", section.raw_size // 8, section.offset)
            self._numbers = _numbers_of(self._values)

    def __len__(self) -> int:
        return self.blocks.section.raw_size // 8

    @property
    def in_place(self) -> Sequence[int] | memoryview:
        """The numbers of a plain table, whether they were touched or not."""
        return self._numbers

    def pair(self, index: int) -> tuple[int, int]:
        """Return the numbers at `index` and after it."""
        values = self._values
        if values is None:
            values = self._unpack()
        elif self.blocks.left:
            grain = self.blocks.section.block_bytes // 8
            self.blocks.touch_one(index // grain)
            self.blocks.touch_one((index + 1) // grain)
        numbers = self._numbers
        return numbers[index], numbers[index + 1]

    def numbers(self, rows: Sequence[int], width: int) -> Sequence[int] | memoryview:
        """Return all numbers; those at `row * width` to `(row + 1) * width` are here and whole."""
        if self._values is None:
            self._unpack()
        elif self.blocks.left:
            grain = self.blocks.section.block_bytes // 8
            ends = {row * width // grain for row in rows} | {(row + 1) * width // grain for row in rows}
            self.blocks.touch_some(sorted(ends))
        return self._numbers

    def at(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the numbers at many indices; those of more than 63 bits come out below zero."""
        values = self._values
        if values is None:
            values = self._unpack()
        elif self.blocks.left:
            self.blocks.touch_some(distinct(indices // (self.blocks.section.block_bytes // 8)))
        return values[indices].astype(np.int64)

    def all(self) -> npt.NDArray[np.uint64]:
        """Return all numbers."""
        if self._values is None:
            return self._unpack()
        self.blocks.touch(0, len(self.blocks.section.crcs))
        return self._values

    def _unpack(self) -> Array:
        values = np.frombuffer(self.blocks.raw(0, self.blocks.section.raw_size), "<u8")
        self._numbers = _numbers_of(values)
        self._values = values  # last: a thread that sees it may read the numbers
        return values


def _numbers_of(values: Array) -> memoryview | list[int]:
    """Return an array of u64 as something whose items are ints, and cheap to get."""
    return values.data if sys.byteorder == "little" else values.tolist()
