"""One page of memory shared by the front and one worker: how many requests the worker has begun.

A socket cannot tell this: when a worker dies, what it had begun must fail, and what it had merely been sent
goes to another worker.
"""

import mmap
import os
import struct
import tempfile
from collections.abc import Callable
from multiprocessing.reduction import DupFd
from typing import Any

_STARTED = struct.Struct("<Q")


class Page:
    """The shared word. Travels to the child inside the arguments of a spawned process."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._map = mmap.mmap(fd, mmap.PAGESIZE)

    @classmethod
    def create(cls) -> "Page":
        """A fresh page, zeroed, without a name in the file system."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("blixt-serve")
        else:
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.ftruncate(fd, mmap.PAGESIZE)
        return cls(fd)

    @property
    def started(self) -> int:
        """Requests begun so far; read by the front, written by the worker."""
        return _STARTED.unpack_from(self._map)[0]

    @started.setter
    def started(self, count: int) -> None:
        _STARTED.pack_into(self._map, 0, count)

    def close(self) -> None:
        """Give the memory back; closing twice is fine."""
        if not self._map.closed:
            self._map.close()
            os.close(self._fd)

    def __reduce__(self) -> tuple[Callable[[Any], "Page"], tuple[Any]]:
        return _rebuild, (DupFd(self._fd),)


def _rebuild(handle: Any) -> Page:
    return Page(handle.detach())
