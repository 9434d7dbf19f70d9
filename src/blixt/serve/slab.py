"""Shared memory for large bodies: the kernel receives a body where the worker reads it.

A front owns one slab and lends blocks of it, one a body. The worker maps the same memory and is told only
where the body lies. A slab that is full lends nothing: that body travels through the socket like a small one.
"""

import mmap
import struct
from bisect import bisect_left
from typing import Self

from blixt.serve.page import SharedMemory

UNIT_BYTES = 64 * 2**10
SLAB_BYTES = 256 * 2**20
PLACE = struct.Struct("<QQ")  # offset and length of a body: what a worker is sent


class Slab(SharedMemory):
    """Blocks of shared memory, lent first-fit so that the same pages are used again and again.

    Example:
        >>> slab = Slab.allocate(4 * UNIT_BYTES)
        >>> body = slab.lend(5)
        >>> body.view[:] = b"hello"
        >>> bytes(body), slab.used_bytes == UNIT_BYTES
        (b'hello', True)
        >>> body.release(); slab.close()
    """

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._view = memoryview(self._map)
        self._free = [(0, self.size_bytes // UNIT_BYTES)]  # (first unit, units), by place
        self.used_bytes = 0

    @classmethod
    def create(cls, size_bytes: int = SLAB_BYTES) -> Self:
        """A fresh slab; its memory is taken page by page as it is used."""
        return cls.allocate(max(UNIT_BYTES, size_bytes // UNIT_BYTES * UNIT_BYTES))

    def lend(self, length: int) -> "SlabBody | None":
        """Room for a body of so many bytes, or None if there is none in one piece."""
        units = max(1, -(-length // UNIT_BYTES))
        for index, (start, free) in enumerate(self._free):
            if free >= units:
                if free == units:
                    del self._free[index]
                else:
                    self._free[index] = (start + units, free - units)
                self.used_bytes += units * UNIT_BYTES
                return SlabBody(self, start * UNIT_BYTES, length)
        return None

    def view_of(self, offset: int, length: int) -> memoryview:
        """A piece of the memory.

        Raises:
            ValueError: It does not lie inside the slab.
        """
        if offset + length > self.size_bytes:
            raise ValueError(f"bytes {offset} to {offset + length} of a slab of {self.size_bytes}")
        return self._view[offset : offset + length]

    def read(self, place: bytes) -> memoryview:
        """The body a `SlabBody.descriptor` speaks of, read-only; it is the front's again after the answer."""
        return self.view_of(*PLACE.unpack(place)).toreadonly()

    def take_back(self, offset: int, length: int) -> None:
        """A body's block is free again."""
        start, units = offset // UNIT_BYTES, max(1, -(-length // UNIT_BYTES))
        self.used_bytes -= units * UNIT_BYTES
        free = self._free
        index = bisect_left(free, (start, 0))
        if index < len(free) and start + units == free[index][0]:
            units += free.pop(index)[1]
        if index and sum(free[index - 1]) == start:
            start, before = free[index - 1]
            units += before
            index -= 1
            free[index] = (start, units)
        else:
            free.insert(index, (start, units))

    def trim(self) -> None:
        """Return the memory of an idle slab to the system."""
        if not self.used_bytes and hasattr(mmap, "MADV_REMOVE"):
            self._map.madvise(mmap.MADV_REMOVE)

    def close(self) -> None:
        """Give the memory back; bodies that are still lent keep it mapped until they are dropped."""
        self._view.release()
        super().close()


class SlabBody:
    """One body in the slab. `len()` and `bytes()` work as for a plain body."""

    __slots__ = ("_length", "_offset", "_slab", "view")

    def __init__(self, slab: Slab, offset: int, length: int) -> None:
        self._slab: Slab | None = slab
        self._offset = offset
        self._length = length
        self.view = slab.view_of(offset, length)

    def __len__(self) -> int:
        return self._length

    def __bytes__(self) -> bytes:
        return bytes(self.view)

    @property
    def descriptor(self) -> bytes:
        """What a worker needs to find it."""
        return PLACE.pack(self._offset, self._length)

    def release(self) -> None:
        """Nobody reads it any more; a second call does nothing."""
        slab, self._slab = self._slab, None
        if slab is not None:
            self.view.release()
            slab.take_back(self._offset, self._length)
