"""Python values from worker to worker: through the front's sockets if small, else through shared memory.

A value is pickled (protocol 5); arrays and tensors lie beside it, uncopied. A large one becomes a file
in `/dev/shm` that the next worker maps, and the front only passes its name on. Whoever sees the value's last
use calls `discard`; what the crash of a worker or front leaves behind is swept away when it is too old for
anybody to wait for it, and the folder goes with the server.
"""

import contextlib
import fcntl
import glob
import itertools
import mmap
import os
import pickle
import shutil
import struct
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from blixt.serve.errors import HTTPError

LARGE_BYTES = 64 * 2**10
_COUNT = struct.Struct("<I")
_count = itertools.count()
_INLINE, _FILE = b"\0", b"\1"


class Folder:
    """Where large values lie, in memory where the system can. Locked while it is in use.

    Folders that nobody locks any more were left by servers that were killed; they are removed on the way.

    Args:
        base: Where to make it; None: `/dev/shm`, or else the system's place for temporary files.
    """

    def __init__(self, base: str | None = None) -> None:
        base = base or ("/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir())
        for left in glob.glob(os.path.join(base, "blixt-serve-*")):
            if (lock := _lock(left)) is not None:
                shutil.rmtree(left, ignore_errors=True)
                os.close(lock)
        self.path = tempfile.mkdtemp(prefix=".blixt-serve-", dir=base)
        lock = _lock(self.path)
        assert lock is not None, "nobody else knows this folder yet"
        self._lock = lock
        visible = os.path.join(base, os.path.basename(self.path)[1:])
        os.rename(self.path, visible)  # now that it is locked, others may look at it
        self.path = visible

    def sweep(self, age_s: float) -> None:
        """Remove values that are older: than any request may wait, so that nobody will take them any more."""
        latest = time.time() - age_s
        for path in glob.glob(os.path.join(self.path, "*")):
            with contextlib.suppress(FileNotFoundError):
                if os.stat(path).st_mtime < latest:
                    os.unlink(path)

    def close(self) -> None:
        """Remove the folder with all that crashes have left in it; closing twice is fine."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def _lock(folder: str) -> int | None:
    """A descriptor that holds the folder's lock, or None if another process does (or the folder has gone)."""
    try:
        fd = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd


def pack(value: Any, folder: str | None = None) -> bytes:
    """A value as a message's payload.

    Args:
        value: Anything that can be pickled.
        folder: Where large values may lie while there is room; None: all travel in the message.
    """
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, 5, buffer_callback=buffers.append)
    raws = [buffer.raw() for buffer in buffers]
    sizes = [len(head), *(raw.nbytes for raw in raws)]
    table = _COUNT.pack(len(sizes)) + struct.pack(f"<{len(sizes)}Q", *sizes)
    if folder is not None and sum(sizes) >= LARGE_BYTES:
        path = os.path.join(folder, f"{os.getpid()}-{next(_count)}")
        try:
            with open(path, "xb") as file:
                file.writelines((table, head, *raws))
            return _FILE + path.encode()
        except OSError:  # it is full: containers have 64 MB of it unless told otherwise
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
    return b"".join((_INLINE, table, head, *raws))


def unpack(payload: "bytes | memoryview") -> Any:
    """The value of a payload; its arrays are its own to write to.

    Raises:
        HTTPError: 410, nobody waits for it any more and its memory is gone.
    """
    payload = bytes(payload)
    if payload[:1] == _INLINE:
        return _load(memoryview(bytearray(payload))[1:])
    try:
        with open(payload[1:], "rb") as file:
            return _load(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)))
    except FileNotFoundError:
        raise HTTPError(410, "The value was withdrawn while it waited.") from None


def discard(payload: bytes) -> None:
    """Nobody will unpack this payload any more."""
    if payload[:1] == _FILE:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(payload[1:])


def _load(view: memoryview) -> Any:
    (count,) = _COUNT.unpack_from(view)
    sizes: Sequence[int] = struct.unpack_from(f"<{count}Q", view, _COUNT.size)
    offset = _COUNT.size + 8 * count
    pieces: list[memoryview] = []
    for size in sizes:
        pieces.append(view[offset : offset + size])
        offset += size
    return pickle.loads(pieces[0], buffers=pieces[1:])
