"""Memory of decoded batches, used again once nobody holds their arrays.

Pages that are fresh from the kernel are cleared first, and lie in no processor's cache: for a batch of images
that costs up to a tenth of what decoding them does.
"""

import ctypes
import math
import weakref
from contextlib import suppress
from typing import Any

import numpy as np

_LEAST_BYTES = 1 << 20
_KEPT_BYTES = 64 << 20


class Recycler:
    """Gives arrays their memory, and takes it back when the last array that looks into it is gone.

    Args:
        least_bytes: smaller arrays get memory of their own.
        kept_bytes: how much memory that nobody uses is kept.
    """

    def __init__(self, least_bytes: int = _LEAST_BYTES, kept_bytes: int = _KEPT_BYTES) -> None:
        self._least_bytes, self._kept_bytes = least_bytes, kept_bytes
        self._free: list[np.ndarray[Any, Any]] = []

    def __call__(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
        """Return an array whose content has no meaning yet."""
        kind = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        if size < self._least_bytes:
            return np.empty(shape, kind)
        memory: Any = self._take(size)
        lease = (ctypes.c_char * size).from_buffer(memory)
        weakref.finalize(lease, self._give_back, memory).atexit = False
        looking: Any = lease  # what numpy's hints do not know to be a buffer
        return np.frombuffer(looking, kind).reshape(shape)

    @property
    def free_bytes(self) -> int:
        """How much memory is kept that nobody uses."""
        return sum(memory.nbytes for memory in self._free)

    def _take(self, size: int) -> np.ndarray[Any, Any]:
        """Return memory for so many bytes; what does not fit is let go of, for sizes seldom come back."""
        while self._free:
            with suppress(IndexError):  # another thread was faster
                memory = self._free.pop()
                if size <= memory.nbytes <= 2 * size:
                    return memory
        return np.empty(size, np.uint8)

    def _give_back(self, memory: np.ndarray[Any, Any]) -> None:
        """Keep memory, or let go of it; it runs wherever an array is let go of, so it takes no lock."""
        if self.free_bytes + memory.nbytes <= self._kept_bytes:
            self._free.append(memory)


recycled = Recycler()
"""This process's memory for batches of images."""
