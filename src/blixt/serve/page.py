"""Memory shared between processes without a name in the file system, and the page a worker counts in.

A socket cannot tell how far a worker came: when it dies, what it had begun must fail, and what it had merely
been sent goes to another worker. So the worker writes one word for each front before it begins a request.
"""

import contextlib
import mmap
import os
import struct
import tempfile
from collections.abc import Callable
from multiprocessing.reduction import DupFd
from typing import Any, Self

_STARTED = struct.Struct("<Q")
LARGE_BUFFER_BYTES = 16 * 2**20
MAX_FRONTS = mmap.PAGESIZE // _STARTED.size


class SharedMemory:
    """A region that children see too. Travels inside the arguments of a spawned process, or as a descriptor.

    Args:
        fd: Descriptor of the memory; owned from now on.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.size_bytes = os.fstat(fd).st_size
        self._map = mmap.mmap(fd, self.size_bytes)

    @classmethod
    def allocate(cls, size_bytes: int) -> Self:
        """Fresh memory, zeroed; pages cost nothing until they are written."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("blixt-serve")
        else:
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.ftruncate(fd, size_bytes)
        return cls(fd)

    def close(self) -> None:
        """Give the memory back, at the latest when the last view of it goes; closing twice is fine."""
        if self.fd < 0:
            return
        os.close(self.fd)
        self.fd = -1
        with contextlib.suppress(BufferError):
            self._map.close()

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[Any, ...]]:
        return _rebuild, (type(self), DupFd(self.fd))


class Page(SharedMemory):
    """How many requests a worker has begun, by front. Written by the worker, read by the fronts."""

    @classmethod
    def create(cls) -> Self:
        """A fresh page of zeros."""
        return cls.allocate(mmap.PAGESIZE)

    @property
    def started(self) -> int:
        """Requests begun for front 0."""
        return self.started_of(0)

    @started.setter
    def started(self, count: int) -> None:
        self.set_started(0, count)

    def started_of(self, slot: int) -> int:
        """Requests begun for the front in this slot."""
        return _STARTED.unpack_from(self._map, slot * _STARTED.size)[0]

    def serves_others(self, slot: int) -> bool:
        """Whether requests were begun for any front but the one in this slot."""
        counts = _STARTED.iter_unpack(self._map[: MAX_FRONTS * _STARTED.size])
        return any(count for other, (count,) in enumerate(counts) if other != slot)

    def set_started(self, slot: int, count: int) -> None:
        """Note how many requests of the front in this slot were begun."""
        _STARTED.pack_into(self._map, slot * _STARTED.size, count)


def keep_large_buffers() -> None:
    """Let malloc serve large buffers from its heap and keep them there, as a long-lived process wants it.

    Glibc learns this from the first large block that is freed. Before, each read or copy of a large body maps
    fresh pages and gives them back, and faulting them in costs more than reading.
    """
    block = bytes(LARGE_BUFFER_BYTES)  # never touched, so it costs no memory
    del block


def _rebuild(kind: type[SharedMemory], handle: Any) -> Any:
    return kind(handle.detach())
