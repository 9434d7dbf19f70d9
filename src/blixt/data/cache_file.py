"""One file of the cache: a remote file's bytes as far as they were fetched, shared by all processes.

The file is sparse: a header, one byte per granule that says whether it is there, then the data at its
place. A granule's byte is set after its data was written, so a process that dies in between leaves nothing
wrong. The file never shrinks and is never replaced: whoever has it mapped keeps valid pages even after it was
unlinked.

Locks are the kernel's, so they go when their owner dies:

- whoever uses the file holds a shared `flock`; evicting takes an exclusive one without waiting;
- whoever fetches granules holds a record lock on each of them.
"""

import fcntl
import mmap
import os
import struct
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from blixt.data.filemap import FileMap

GRANULE = 1 << 14
"""Bytes that are fetched and marked as one."""
TEMPORARY = ".new-"
Span = tuple[int, int]
"""Granules `[low, high)` of a file."""
_HEADER = struct.Struct("<8sQII")
_MAGIC = b"BLXCACH1"
_MAP_AT = 4096
_ALIGN = 1 << 16
_LOCK = struct.Struct("hhqqi4x")


class CacheFile:
    """A cached file that is in use by this process.

    Args:
        path: the file; it is made when it is not there.
        size: the length of the remote file in bytes.

    Raises:
        OSError: when the disk refuses.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._descriptor = -1
        self.path = path
        self.size = size
        self.granules = -(-size // GRANULE)
        self._data_at = -(-(_MAP_AT + self.granules) // _ALIGN) * _ALIGN
        self._descriptor = self._open()
        self.map = mmap.mmap(self._descriptor, self._data_at)
        data = FileMap(self._descriptor, max(size, 1), self._data_at, name=f"cached file {path}")
        self.view = memoryview(data)[:size]

    def __del__(self) -> None:
        # only now: a thread that still writes must not meet another file under the same number
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def absent(self, low: int, high: int) -> list[Span]:
        """Return which granules in `[low, high)` are not there, as spans of neighbours."""
        spans = zeros(self._marks(low, high), 0, high - low)
        return [(low + first, low + end) for first, end in spans]

    def complete(self, low: int, high: int) -> bool:
        """Whether all granules in `[low, high)` are there."""
        return b"\0" not in self._marks(low, high)

    def _marks(self, low: int, high: int) -> bytes:
        """Copy the marks of the granules `[low, high)`: searching a mapped file goes byte by byte."""
        return self.map[_MAP_AT + low : _MAP_AT + high]

    def fill(self, start: int, data: memoryview) -> None:
        """Write bytes that begin at `start`, then mark the granules that are whole by that.

        A caller that begins in the middle of a granule has written what lies before in it.

        Raises:
            OSError: when the disk is full; what is not marked counts as absent.
        """
        written = 0
        while written < len(data):
            written += os.pwrite(self._descriptor, data[written:], self._data_at + start + written)
        end = start + len(data)
        low, high = start // GRANULE, self.granules if end >= self.size else end // GRANULE
        self.map[_MAP_AT + low : _MAP_AT + high] = b"\1" * (high - low)

    @contextmanager
    def fetching(self, low: int, high: int) -> Generator[bool]:
        """Try to be the one process that fetches the granules `[low, high)`; yields whether it is."""
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, _record(fcntl.F_WRLCK, low, high))
        except (BlockingIOError, PermissionError):
            yield False
            return
        try:
            yield True
        finally:
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, _record(fcntl.F_UNLCK, low, high))

    def touch(self) -> None:
        """Count as used now; files that were used longest ago are evicted first."""
        os.utime(self._descriptor)

    def release(self) -> None:
        """Let the file be evicted from now on; what is mapped stays readable."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _open(self) -> int:
        """Open the file and hold it, making it if need be; an evictor may take it away in between."""
        while True:
            try:
                descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                self._create()
                continue
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if _is(self.path, descriptor) and _header(descriptor) == (self.size, GRANULE, self._data_at):
                return descriptor
            strange = _is(self.path, descriptor)
            os.close(descriptor)
            if strange:
                self.path.unlink(missing_ok=True)

    def _create(self) -> None:
        """Make the empty file under another name first, so that it has its name only when it is whole."""
        folder = self.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        mode = folder.parent.stat().st_mode & 0o777
        if folder.stat().st_uid == os.getuid():
            folder.chmod(mode)
        temporary = folder / f"{TEMPORARY}{uuid4().hex}"
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            os.fchmod(descriptor, mode & 0o666)  # whoever may use the folder may use the file
            os.ftruncate(descriptor, self._data_at + max(self.size, 1))
            header = _HEADER.pack(_MAGIC, self.size, GRANULE, self._data_at)
            os.pwrite(descriptor, header.ljust(_MAP_AT + self.granules, b"\0"), 0)  # mapping holes is slow
            try:
                os.link(temporary, self.path)
            except FileExistsError:
                pass
        finally:
            temporary.unlink(missing_ok=True)
            os.close(descriptor)


def zeros(marks: bytes | bytearray, low: int, high: int) -> list[Span]:
    """Return where bytes in `[low, high)` are zero and not one, as spans.

    Example:
        >>> zeros(bytearray([1, 0, 0, 1, 0]), 0, 5)
        [(1, 3), (4, 5)]
    """
    spans: list[Span] = []
    first = marks.find(b"\0", low, high)
    while first >= 0:
        end = marks.find(b"\1", first, high)
        if end < 0:
            end = high
        spans.append((first, end))
        first = marks.find(b"\0", end, high)
    return spans


def evict(path: Path) -> int:
    """Unlink a cached file unless somebody uses it; return the bytes of disk that this frees, 0 if none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is(path, descriptor):
            return 0
        path.unlink()
        return os.fstat(descriptor).st_blocks * 512
    except BlockingIOError:
        return 0
    finally:
        os.close(descriptor)


def stored_bytes(path: Path) -> tuple[int, int] | None:
    """Return how many bytes of the remote file are there, and its size; None for a file of another kind."""
    try:
        with open(path, "rb") as file:
            magic, size, granule, _ = _HEADER.unpack(file.read(_HEADER.size))
            if magic != _MAGIC:
                return None
            file.seek(_MAP_AT)
            there = file.read(-(-size // granule)).count(1)
    except (OSError, struct.error):
        return None
    return min(there * granule, size), size


def _record(kind: int, low: int, high: int) -> bytes:
    return _LOCK.pack(kind, os.SEEK_SET, low, high - low, 0)


def _is(path: Path, descriptor: int) -> bool:
    """Whether the path still names the open file."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(descriptor))


def _header(descriptor: int) -> tuple[int, int, int] | None:
    try:
        magic, size, granule, data_at = _HEADER.unpack(os.pread(descriptor, _HEADER.size, 0))
    except struct.error:
        return None
    return (size, granule, data_at) if magic == _MAGIC else None
