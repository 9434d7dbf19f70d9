"""A ring of slots of shared memory, owned by the loader; workers write batches into them.

The memory is an anonymous file: it has no name that could be left behind, and the kernel frees it with the
last process that has it open, however that process ended. It is sparse, so a slot costs what was written to
it.
"""

import mmap
import os
import tempfile
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

_ALIGN = 64


def anonymous_file(size_bytes: int) -> int:
    """Return the descriptor of a new file without a name, of zeros that take no memory yet."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("blixt-loader", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.truncate(descriptor, size_bytes)
    return descriptor


class Slot:
    """Memory for one batch, given out from its start on.

    Args:
        memory: the slot's bytes.
        base: where they lie in the ring.
    """

    def __init__(self, memory: np.ndarray[Any, np.dtype[np.uint8]], base: int) -> None:
        self._memory = memory
        self._base = base
        self._used = 0
        self._address = int(memory.ctypes.data)
        self.overflowed = False

    def clear(self) -> None:
        """Begin a new batch."""
        self._used = 0
        self.overflowed = False

    def allocate(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
        """Return an array in the slot; in ordinary memory when the slot is full."""
        kind = np.dtype(dtype)
        size = kind.itemsize
        for side in shape:
            size *= side
        at = self._used
        if at + size > len(self._memory):
            self.overflowed = True
            return np.empty(shape, kind)
        self._used = (at + size + _ALIGN - 1) // _ALIGN * _ALIGN
        return self._memory[at : at + size].view(kind).reshape(shape)

    def offset_of(self, array: np.ndarray[Any, Any]) -> int | None:
        """Return where a contiguous array lies in the ring, None when it lies elsewhere."""
        at = int(array.ctypes.data) - self._address
        inside = at >= 0 and at + array.nbytes <= self._used and array.flags.c_contiguous
        return self._base + at if inside else None


class Ring:
    """All slots, mapped into this process."""

    def __init__(self, descriptor: int, slots: int, slot_bytes: int) -> None:
        self._map = mmap.mmap(descriptor, slots * slot_bytes)
        self._slot_bytes = slot_bytes
        self.free: deque[int] = deque(range(slots))

    def base(self, number: int) -> int:
        """Return where a slot begins in the ring."""
        return number * self._slot_bytes

    def slot(self, number: int) -> Slot:
        """Return a slot to write to."""
        return Slot(self.root(number), self.base(number))

    def root(self, number: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Return a new array over the whole slot; views of it keep it alive, and nothing else does."""
        return np.frombuffer(self._map, np.uint8, self._slot_bytes, self.base(number))

    def lend(self, number: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Return the whole slot as an array; the slot is free again once no view of that is left."""
        root = self.root(number)
        release: Callable[[int], None] = self.free.append
        weakref.finalize(root, release, number).atexit = False
        return root
