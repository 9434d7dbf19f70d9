"""Schemes of the user's own: `register_downloader("my://", Mine)`, as in LitData."""

import hashlib
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blixt.data.foreign.files import default_cache_dir, make_room
from blixt.data.store import NotFoundError, Store, StoreError
from blixt.data.store.errors import TruncatedError, UnsupportedError

_KEPT_BYTES = 20 << 30
_CHANGING = ("index.json", "index.bin")


class Downloader:
    """Fetches files of an address; a subclass says how in `download_file`.

    Args:
        remote_dir: the address of the dataset.
        cache_dir: where files may be kept.
        chunks: of no meaning here: files are asked for by name.
        storage_options: what the user gave the dataset.
    """

    def __init__(
        self,
        remote_dir: str,
        cache_dir: str,
        chunks: list[dict[str, Any]],
        storage_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._remote_dir, self._cache_dir, self._chunks = remote_dir, cache_dir, chunks
        self._storage_options = dict(storage_options or {})

    def download_file(self, remote_chunkpath: str, local_chunkpath: str) -> None:
        """Fetch a whole file to a path.

        Raises:
            FileNotFoundError: when there is none.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how to download a file")


_registered: dict[str, type[Downloader]] = {}


def register_downloader(prefix: str, downloader_cls: type[Any], overwrite: bool = False) -> None:
    """Let addresses that begin with a prefix be read with a downloader.

    Raises:
        ValueError: when there is one for the prefix, and `overwrite` was not given.
    """
    if prefix in _registered and not overwrite:
        raise ValueError(f"Downloader with prefix {prefix} already registered.")
    _registered[prefix] = downloader_cls


def unregister_downloader(prefix: str) -> None:
    """Forget the downloader of a prefix."""
    del _registered[prefix]


def store_of(location: str, storage_options: dict[str, Any] | None) -> "DownloaderStore | None":
    """Return the store of an address for which a downloader was registered, else None."""
    for prefix, kind in _registered.items():
        if location.startswith(prefix):
            return DownloaderStore(location, kind, storage_options or {})
    return None


class DownloaderStore(Store):
    """Files that a downloader brings, each whole and once; beyond 20 GB the least recently used are deleted.

    Indexes, which may change, are brought anew each time.
    """

    def __init__(self, location: str, kind: type[Any], storage_options: dict[str, Any]) -> None:
        self.location = location.rstrip("/")
        self._kind, self._options = kind, storage_options
        self._folder = (
            default_cache_dir() / "downloads" / hashlib.sha256(self.location.encode()).hexdigest()[:32]
        )
        self._setup()

    def _setup(self) -> None:
        self._lock = threading.Lock()
        self._downloader: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Travel to another process, where another downloader is made."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_lock", "_downloader")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._setup()

    def read(self, path: str, start: int, end: int) -> memoryview:
        """Return the bytes `[start, end)` of a file."""
        with open(self._brought(path), "rb") as file:
            file.seek(start)
            data = file.read(end - start)
        if len(data) < end - start:
            raise TruncatedError(f"{self.url(path)} ends before byte {end}; restore it from a copy")
        return memoryview(data)

    def get(self, path: str) -> bytes:
        """Return a whole file."""
        return self._brought(path).read_bytes()

    def get_tail(self, path: str, size: int) -> tuple[bytes, int]:
        """Return the end of a file, and its size."""
        content = self.get(path)
        return content[-size:], len(content)

    def size(self, path: str) -> int | None:
        """Return a file's size."""
        try:
            return self._brought(path).stat().st_size
        except NotFoundError:
            return None

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Refuse: a downloader lists nothing."""
        raise UnsupportedError(
            f"{self.url(prefix)} cannot be listed: its downloader only fetches files by name"
        )

    def sub(self, prefix: str) -> "DownloaderStore":
        """Return the store of the files below a folder."""
        return DownloaderStore(self.url(prefix), self._kind, self._options)

    def _brought(self, path: str) -> Path:
        place = self._folder / path
        with self._lock:
            if place.exists() and place.name not in _CHANGING:
                os.utime(place)
                return place
            place.parent.mkdir(parents=True, exist_ok=True)
            make_room(place.parent, _KEPT_BYTES)
            if self._downloader is None:
                self._downloader = self._kind(self.location, str(self._folder), [], self._options)
            with tempfile.TemporaryDirectory(dir=self._folder) as folder:
                fetched = os.path.join(folder, "file")
                self._fetch(path, fetched)
                os.replace(fetched, place)
            return place

    def _fetch(self, path: str, local: str) -> None:
        try:
            self._downloader.download_file(self.url(path), local)
        except FileNotFoundError:
            raise NotFoundError(f"{self.url(path)} is not there; check the address") from None
        except Exception as problem:  # whatever the user's code raises
            raise StoreError(
                f"cannot fetch {self.url(path)}: {type(problem).__name__}: {problem}"
            ) from problem
        if not os.path.exists(local):
            raise NotFoundError(f"{self.url(path)} is not there; check the address")
