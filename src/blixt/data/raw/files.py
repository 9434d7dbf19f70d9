"""The contents of single files: fetched into memory, or as whole files into the cache."""

import fcntl
import os
from collections import OrderedDict
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from threading import Lock
from uuid import uuid4

from blixt.data.cache import Cache
from blixt.data.cache_file import TEMPORARY
from blixt.data.raw.group import RawFile
from blixt.data.store import Store, StoreError

_PART_BYTES = 8 << 20
_HELD = 1024
"""Files of the cache that stay in use after their paths were handed out, so that they are not evicted."""


def read_whole(store: Store, file: RawFile) -> bytes:
    """Return a file's bytes.

    Raises:
        StoreError: when it is not as it was listed, or the store does not give it.
    """
    data = store.get(file.path)
    if len(data) != file.size:
        raise _changed(store, file, len(data))
    return data


class FilesOnDisk:
    """Files of a store as files on this machine: where they are, or fetched into the cache.

    A file is found again by its address, path and size: a change that keeps the size is not noticed.

    Args:
        store: where they lie.
        cache: where they are put, unless the store is a folder.
    """

    def __init__(self, store: Store, cache: Cache) -> None:
        self._store = store
        self._cache = cache
        self._folder = cache.folder / "raw" / sha256(store.location.encode()).hexdigest()[:32]
        self._held: OrderedDict[Path, int] = OrderedDict()
        self._lock = Lock()

    def __del__(self) -> None:
        for descriptor in self._held.values():
            os.close(descriptor)

    def path(self, file: RawFile) -> Path:
        """Return the path of a file on this machine, having fetched it if need be.

        It stays there while it is among the last 1024 that were asked for.

        Raises:
            StoreError: when it is not as it was listed, or the store does not give it.
            CacheError: when the disk does not take it.
        """
        if self._store.local is not None:
            return self._store.local / file.path
        suffix = Path(file.path).suffix
        name = sha256(f"{file.path}\0{file.size}".encode()).hexdigest()[:32]
        place = self._folder / f"{name}{suffix}"
        while not self._hold(place):
            self._fetch(file, place)
        return place

    def _hold(self, place: Path) -> bool:
        """Keep a file from being evicted; return whether it is there."""
        with self._lock:
            if place in self._held and place.exists():
                self._held.move_to_end(place)
                return True
        try:
            descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if not place.exists():
            os.close(descriptor)
            return False
        with suppress(PermissionError):
            os.utime(place)
        with self._lock:
            old = self._held.pop(place, None)
            self._held[place] = descriptor
            excess = self._held.popitem(last=False)[1] if len(self._held) > _HELD else None
        for done in (old, excess):
            if done is not None:
                os.close(done)
        return True

    def _fetch(self, file: RawFile, place: Path) -> None:
        """Fetch a file in parts under another name, which it loses when it is whole."""
        total = self._store.size(file.path)
        if total is not None and total != file.size:
            raise _changed(self._store, file, total)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            self._cache.about_to_store(file.size)
            temporary = place.parent / f"{TEMPORARY}{uuid4().hex}"
            try:
                self._fill(file, temporary)
                os.replace(temporary, place)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as problem:
            raise self._cache.refused(problem) from problem

    def _fill(self, file: RawFile, temporary: Path) -> None:
        with open(temporary, "xb") as out:
            fcntl.flock(out, fcntl.LOCK_SH)
            os.fchmod(out.fileno(), self._cache.folder.stat().st_mode & 0o666)
            for start in range(0, file.size, _PART_BYTES):
                out.write(self._store.read(file.path, start, min(start + _PART_BYTES, file.size)))


def _changed(store: Store, file: RawFile, size: int) -> StoreError:
    return StoreError(
        f"{store.url(file.path)} has {size} bytes and had {file.size} when it was listed; pass relist=True"
    )
