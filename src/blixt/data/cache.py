"""The cache of remote data on this machine: a folder with a byte limit, shared by processes, jobs and users.

Files are named after what they hold (dataset, shard, checksum), so whoever reads the same shard, from
whatever address, finds what others fetched. Nothing but the folder coordinates the users: see `cache_file`
for the locks.
"""

import fcntl
import os
import shutil
import socket
import threading
import weakref
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from blixt.data.cache_file import TEMPORARY, CacheFile, evict, stored_bytes
from blixt.data.errors import DataError
from blixt.data.sizes import parse_size

_NETWORK = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "9p", "afs", "fuse.")
_MOUNTS = Path("/proc/self/mountinfo")
_SHARE_OF_DISK = 0.75
_LOOKS_PER_LIMIT = 32
_LOOK_BYTES = 256 << 20


class CacheError(DataError):
    """The cache's folder cannot be used, or its disk is full; the message names the folder."""


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """What the cache holds of one remote file.

    Attributes:
        name: dataset and shard, as the file is named in the cache.
        stored_bytes: how much of it is there.
        size_bytes: how large the remote file is.
        disk_bytes: what it takes on disk.
        used_at: when it was used last, in seconds since 1970.
    """

    name: str
    stored_bytes: int
    size_bytes: int
    disk_bytes: int
    used_at: float


class Cache:
    """A cache folder as this process uses it.

    Args:
        folder: where the files are; made when it is not there.
        limit_bytes: how much disk the whole cache may take; None is three quarters of what is free or cached
            now. What is in use right now is kept even above the limit.

    Raises:
        CacheError: when the folder cannot be written, or its filesystem knows no locks.
    """

    def __init__(self, folder: Path, limit_bytes: int | None = None) -> None:
        self.folder = folder
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _probe_locks(folder)
            if _is_network(folder):
                # what one machine writes, another sees late: give each machine its own
                self.folder = folder / f"host-{socket.gethostname()}"
                self.folder.mkdir(exist_ok=True)
        except OSError as problem:
            raise CacheError(
                f"cannot use the cache folder {folder}: {problem.strerror or problem}; choose another by "
                "cache_dir= or BLIXT_CACHE"
            ) from problem
        self.limit_bytes = self._default_limit() if limit_bytes is None else limit_bytes
        self._look_after = min(_LOOK_BYTES, self.limit_bytes // _LOOKS_PER_LIMIT)
        self._unseen = self._look_after
        self._open: weakref.WeakSet[CachedUse] = weakref.WeakSet()
        self._lock = threading.Lock()

    def open(self, key: str, size: int) -> "CachedUse":
        """Return the cached file of this key, in use until it is retired.

        Args:
            key: names the content; `/` makes folders.
            size: the remote file's length in bytes.

        Raises:
            CacheError: when it cannot be made.
        """
        path = self.folder / key
        try:
            file = CacheFile(path, size)
        except OSError as problem:
            self.free(_LOOK_BYTES)
            try:
                file = CacheFile(path, size)
            except OSError:
                raise self.refused(problem) from problem
        use = CachedUse(file)
        file.touch()
        with self._lock:
            self._open.add(use)
        return use

    def about_to_store(self, size_bytes: int) -> None:
        """Make room before bytes are written, as far as there is something that can go."""
        with self._lock:
            self._unseen += size_bytes
            if self._unseen < self._look_after:
                return
            self._unseen = 0
        excess = self.size() + size_bytes + self._look_after - self.limit_bytes
        if excess > 0:
            self.free(excess)

    def free(self, size_bytes: int) -> int:
        """Free so much disk, least recently used first; files that nobody uses go before this process's own.

        Returns:
            The bytes that were freed, which may be fewer: what others use stays.
        """
        freed = self._evict(size_bytes)
        if freed < size_bytes:
            with self._lock:
                uses = sorted(self._open, key=lambda use: use.used)
            for use in uses[:-1]:
                use.retire()
                freed += evict(use.file.path)
                if freed >= size_bytes:
                    break
        return freed

    def entries(self) -> list[CacheEntry]:
        """Return what the cache holds, the most recently used first."""
        found: list[CacheEntry] = []
        for path, status in self._files():
            stored, size = stored_bytes(path) or (status.st_size, status.st_size)
            name = path.relative_to(self.folder).as_posix()
            found.append(CacheEntry(name, stored, size, status.st_blocks * 512, status.st_mtime))
        return sorted(found, key=lambda entry: -entry.used_at)

    def size(self) -> int:
        """Return the bytes of disk that the cache takes."""
        return sum(status.st_blocks * 512 for _, status in self._files())

    def clear(self) -> tuple[int, int]:
        """Delete what nobody uses; return the bytes freed, and the bytes that stay, being in use."""
        freed = self._evict(None)
        for folder, _, _ in os.walk(self.folder, topdown=False):
            if Path(folder) != self.folder:
                with suppress(OSError):
                    os.rmdir(folder)
        return freed, self.size()

    def refused(self, problem: OSError) -> CacheError:
        """Explain why the disk would not take something."""
        return CacheError(
            f"cannot store in the cache {self.folder}: {problem.strerror or problem}; make room, give a "
            "smaller cache_bytes, or choose another folder by cache_dir= or BLIXT_CACHE"
        )

    def _evict(self, size_bytes: int | None) -> int:
        freed = 0
        for path, _ in sorted(self._files(), key=lambda found: found[1].st_mtime):
            with suppress(PermissionError):
                freed += evict(path)
            if size_bytes is not None and freed >= size_bytes:
                break
        return freed

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = Path(folder, name)
                with suppress(FileNotFoundError):
                    yield path, path.stat()

    def _default_limit(self) -> int:
        return int((shutil.disk_usage(self.folder).free + self.size()) * _SHARE_OF_DISK)


class CachedUse:
    """A cached file in the hands of one reader, who may retire it; so may the cache when it needs the room.

    Attributes:
        file: the file.
        used: grows with every use of any file of the process; the cache retires the smallest first.
        retired: whether the cache took it back: what is mapped stays good, but open the file anew for more.
    """

    _clock = 0

    def __init__(self, file: CacheFile) -> None:
        self.file = file
        self.retired = False
        self.touch()

    def touch(self) -> None:
        """Count as used now."""
        CachedUse._clock += 1
        self.used = CachedUse._clock

    def retire(self) -> None:
        """Let the file be evicted."""
        self.retired = True
        self.file.release()


_caches: dict[tuple[str, int | None, int], Cache] = {}
_caches_lock = threading.Lock()


def default_folder() -> Path:
    """Return the cache's folder: BLIXT_CACHE, else `blixt/data` in the user's cache folder."""
    if folder := os.environ.get("BLIXT_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "blixt" / "data"


def open_cache(cache_dir: str | Path | None = None, cache_bytes: int | str | None = None) -> Cache:
    """Return this process's cache in a folder; the same one for the same folder and limit.

    Args:
        cache_dir: the folder; `default_folder()` when None.
        cache_bytes: the limit of the whole folder, such as "100GB"; BLIXT_CACHE_BYTES when None, and without
            it three quarters of what is free or cached.

    Raises:
        CacheError: when the folder cannot be used.
        ValueError: when the limit is no size.
    """
    folder = default_folder() if cache_dir is None else Path(cache_dir).expanduser()
    limit = cache_bytes if cache_bytes is not None else os.environ.get("BLIXT_CACHE_BYTES") or None
    limit_bytes = None if limit is None else parse_size(limit)
    key = str(folder.absolute()), limit_bytes, os.getpid()
    with _caches_lock:
        cache = _caches.get(key)
        if cache is None or not cache.folder.is_dir():
            cache = _caches[key] = Cache(folder, limit_bytes)
    return cache


def _probe_locks(folder: Path) -> None:
    """Find out whether two descriptors of a file exclude each other here.

    Raises:
        CacheError: when they do not.
        OSError: when the folder cannot be written.
    """
    with NamedTemporaryFile(dir=folder, prefix=TEMPORARY) as first, open(first.name, "rb") as second:
        fcntl.flock(first, fcntl.LOCK_SH)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
    raise CacheError(f"the filesystem of {folder} has no working locks; choose a local disk by cache_dir=")


def _is_network(folder: Path) -> bool:
    """Whether the folder lies on a filesystem that other machines may write at the same time."""
    try:
        mounts = _MOUNTS.read_text().splitlines()
    except OSError:
        return False
    device = os.stat(folder).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    kinds = [line.partition(" - ")[2].split(" ")[0] for line in mounts if line.split(" ")[2] == number]
    return any(kind.startswith(_NETWORK) for kind in kinds)
