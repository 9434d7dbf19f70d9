"""Files mapped for reading, which may be cut short by somebody else without this process dying of it.

Whoever touches a page behind the end of a mapped file, or one that the disk cannot read, is sent SIGBUS. On
Linux a handler puts zeros in the place of what is gone, so that the read goes on; the last byte of the file
is then zero, too. A reader copies what it needs and then asks `confirm`, which looks at that one byte: no
system call, and no zeros are taken for data.
"""

import ctypes
import mmap
import signal
import sys
import threading
from collections.abc import Iterable
from operator import attrgetter
from typing import Any, Self
from weakref import WeakSet

import numpy as np

from blixt.data.errors import FormatError

_looked_into = attrgetter("obj")
_SA_SIGINFO, _SA_NODEFER = 0x4, 0x40000000
_PROT_READ, _PRIVATE_FIXED_ANONYMOUS = 0x1, 0x2 | 0x10 | 0x20


class FileMap(mmap.mmap):
    """A file, or its end, mapped read-only.

    Args:
        descriptor: the open file; it may be closed afterwards.
        length: how many bytes; the whole file when 0.
        offset: where in the file they begin.
        name: what messages call the file.
    """

    name: str
    _base: int
    _end_in_file: int
    _lost: bool

    def __new__(cls, descriptor: int, length: int = 0, offset: int = 0, *, name: str) -> Self:  # noqa: D102
        made = super().__new__(cls, descriptor, length, access=mmap.ACCESS_READ, offset=offset)
        made.name = name
        made._base = np.frombuffer(made, np.uint8).__array_interface__["data"][0]
        made._end_in_file = offset + len(made)
        made._lost = False
        _watch(made)
        return made

    def confirm(self) -> None:
        """See that the file is as long as it was; called after bytes were copied out of it.

        Raises:
            FormatError: when it is not, so that what was copied may be zeros.
        """
        if not self[-1]:
            self._look()

    def _look(self) -> None:
        size = self.size()
        if self._lost or size < self._end_in_file:
            raise FormatError(
                f"{self.name} was cut short while it was in use, or the disk cannot read it: it has {size} "
                f"bytes, and had {self._end_in_file}; restore it from a copy and open it again"
            )

    def give_zeros(self, address: int) -> bool:
        """Put zeros from the page of an address on, if it is one of this map; return whether it is."""
        page = address - address % mmap.PAGESIZE
        end = self._base + len(self)
        if not self._base <= address < end:
            return False
        self._lost = True
        return _libc.mmap(page, end - page, _PROT_READ, _PRIVATE_FIXED_ANONYMOUS, -1, 0) == page


def confirm(views: Iterable[memoryview]) -> None:
    """See that the files into which views look are as long as they were; views of other memory are well.

    Raises:
        FormatError: when one was cut short.
    """
    seen: list[Any] = list(map(_looked_into, views))
    for one in dict(zip(map(id, seen), seen, strict=True)).values():
        if isinstance(one, FileMap):
            one.confirm()


class _Signal(ctypes.Structure):
    """The beginning of Linux' `siginfo_t` for a fault, where pointers have 64 bits."""

    _fields_ = (("number_errno_code", ctypes.c_int * 3), ("_", ctypes.c_int), ("address", ctypes.c_void_p))


class _Action(ctypes.Structure):
    """Linux' `struct sigaction` as the C libraries have it."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


_Handler = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.POINTER(_Signal), ctypes.c_void_p)
_libc: Any = ctypes.PyDLL(None)
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
_libc.mmap.restype = ctypes.c_void_p
_maps: WeakSet[FileMap] = WeakSet()
_lock = threading.Lock()
_before = _Action()


@_Handler
def _on_fault(number: int, info: Any, context: Any) -> None:
    """Answer a fault: the thread that met it stands still inside a read of mapped memory."""
    address = info.contents.address
    if not any(mapped.give_zeros(address) for mapped in list(_maps)):
        _libc.sigaction(number, ctypes.byref(_before), None)  # not ours: it comes again, to who was before


def _watch(mapped: FileMap) -> None:
    """Answer faults of a map, having taken the handler's place again if somebody took it."""
    with _lock:
        _maps.add(mapped)
        if sys.platform != "linux" or sys.maxsize < 2**32:
            return
        mine, there = ctypes.cast(_on_fault, ctypes.c_void_p).value, _Action()
        _libc.sigaction(int(signal.SIGBUS), None, ctypes.byref(there))
        if there.handler != mine:
            ctypes.memmove(ctypes.byref(_before), ctypes.byref(there), ctypes.sizeof(_Action))
            action = _Action(handler=mine, flags=_SA_SIGINFO | _SA_NODEFER)
            _libc.sigaction(int(signal.SIGBUS), ctypes.byref(action), None)
