"""Files of a store, or parts of them, as mapped memory; remote and unpacked ones are kept, up to a limit."""

import hashlib
import os
import re
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from blixt.data.errors import DataError, FormatError, WriteError
from blixt.data.filemap import FileMap, confirm
from blixt.data.sizes import parse_size
from blixt.data.store import NotFoundError, Store

Unpack = Callable[[memoryview], bytes]
_MAX_OPEN = 128
_OURS = re.compile(r"[0-9a-f]{64}")
"""Names of what is kept; whatever else lies in the folder is somebody's own."""


class Files:
    """Maps files by name, the most recently used ones at hand.

    A local file is mapped where it lies. A remote file, or a part of one, is fetched once into `cache_dir`,
    and so is what `unpack` makes of a compressed one; the least recently used are deleted beyond
    `cache_bytes`, which leaves those that are mapped readable. Processes of a machine share what lies there.

    Args:
        store: where the files are.
        cache_dir: the folder for fetched and unpacked files; None is one below the user's cache folder.
        cache_bytes: how much may lie in it.
        sizes: how large files are, as far as that is known; of others the store is asked.
    """

    def __init__(
        self,
        store: Store,
        cache_dir: str | Path | None = None,
        cache_bytes: str | int = "20GB",
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        self.store = store
        self._sizes = dict(sizes or {})
        self._cache_dir = Path(cache_dir) if cache_dir is not None else default_cache_dir()
        self._cache_bytes = parse_size(cache_bytes)
        self._setup()

    def _setup(self) -> None:
        self._open: OrderedDict[str, memoryview] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Travel to another process without the maps; they are opened anew there."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_open", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._setup()

    def view(self, name: str, unpack: Unpack | None = None) -> memoryview:
        """Return a file's content, after `unpack` where one is given.

        Raises:
            FormatError: when the file is not there, or cannot be unpacked.
        """
        with self._lock:
            if name not in self._open:
                if len(self._open) >= _MAX_OPEN:
                    self._open.popitem(last=False)
                self._open[name] = self._map(name, unpack)
            self._open.move_to_end(name)
            return self._open[name]

    def confirm(self) -> None:
        """See that no open file was cut short meanwhile.

        Raises:
            FormatError: when one was.
        """
        confirm(list(self._open.values()))

    def size(self, name: str) -> int:
        """Return how many bytes a file has.

        Raises:
            FormatError: when it is not there.
        """
        size = self._sizes[name] if name in self._sizes else self.store.size(name)
        if size is None:
            raise missing(self.store, name)
        return size

    def part(self, name: str, begin: int, end: int) -> memoryview:
        """Return the bytes `[begin, end)` of a file, of which no others are fetched.

        Raises:
            FormatError: when the file is not there, or ends before.
        """
        size = self.size(name)
        if not 0 <= begin <= end <= size:
            raise FormatError(f"{self.store.url(name)} is cut short: it has {size} bytes, too few for {end}")
        if self.store.local is not None:
            return self.view(name)[begin:end]
        return self._kept(name, f"{size}\n{begin}-{end}", lambda: self._read(name, begin, end))

    def _map(self, name: str, unpack: Unpack | None) -> memoryview:
        if self.store.local is not None and unpack is None:
            try:
                return _mapped(self.store.local / name, self.store.url(name))
            except FileNotFoundError:
                raise missing(self.store, name) from None
        size = self.size(name)
        return self._kept(name, f"{size}\n{unpack is not None}", lambda: self._whole(name, size, unpack))

    def _read(self, name: str, begin: int, end: int) -> memoryview:
        return self.store.read(name, begin, end) if begin < end else memoryview(b"")

    def _whole(self, name: str, size: int, unpack: Unpack | None) -> bytes | memoryview:
        content = self._read(name, 0, size)
        return content if unpack is None else _unpacked(content, unpack, self.store.url(name))

    def _kept(self, name: str, what: str, bring: Callable[[], bytes | memoryview]) -> memoryview:
        """Return what is kept of a file, or bring it; what was used just now is the last to be deleted."""
        url = self.store.url(name)
        path = self._cache_dir / hashlib.sha256(f"{url}\n{what}".encode()).hexdigest()
        try:
            os.utime(path)
            return _mapped(path, url)
        except FileNotFoundError:
            return self._keep(path, bring(), url)

    def _keep(self, path: Path, data: bytes | memoryview, url: str) -> memoryview:
        """Keep data under a name and return it mapped, though somebody may delete the file at once."""
        try:
            self._cache_dir.mkdir(parents=True, exist_ok=True)
            make_room(self._cache_dir, self._cache_bytes - len(data))
            with tempfile.NamedTemporaryFile(dir=self._cache_dir, suffix=".tmp", delete=False) as file:
                file.write(data)
                file.flush()
                os.replace(file.name, path)
                return _map_of(file.fileno(), url)
        except OSError as problem:
            raise WriteError(
                f"cannot keep {url} in {self._cache_dir}: {problem.strerror or problem}; "
                "make room or choose another cache_dir"
            ) from problem


def _unpacked(content: memoryview, unpack: Unpack, url: str) -> bytes:
    try:
        return unpack(content)
    except DataError:
        raise
    except Exception as problem:  # each compression has an error class of its own
        raise FormatError(f"cannot unpack {url}: {problem}; restore it from a copy") from problem


def default_cache_dir() -> Path:
    """Return the folder below the user's cache folder (`XDG_CACHE_HOME`) that holds other formats' files."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "blixt" / "data" / "foreign"


def make_room(folder: Path, limit_bytes: int) -> None:
    """Delete the least recently used of the files that were kept here until the rest is within the limit."""
    ours = [path for path in folder.iterdir() if _OURS.fullmatch(path.name)]
    files = [(stat.st_mtime, stat.st_size, path) for path in ours if (stat := _stat(path))]
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= limit_bytes:
            return
        path.unlink(missing_ok=True)
        total -= size


def missing(store: Store, name: str) -> FormatError:
    """Return the error that says which file is not there."""
    return FormatError(
        f"{store.url(name)} is missing, but the dataset's index names it; restore it from a copy"
    )


def read_text(store: Store, name: str, what: str) -> str:
    """Return a small text file.

    Raises:
        FormatError: when it is not there; the message says what kind of dataset was expected.
    """
    try:
        return store.get(name).decode()
    except NotFoundError:
        raise FormatError(f"{store.location} holds no {what} (there is no {name})") from None
    except UnicodeDecodeError as problem:
        raise FormatError(f"{store.url(name)} is damaged: {problem}") from None


def _mapped(path: Path, url: str) -> memoryview:
    with open(path, "rb") as file:
        return _map_of(file.fileno(), url)


def _map_of(descriptor: int, url: str) -> memoryview:
    if not os.fstat(descriptor).st_size:
        return memoryview(b"")
    return memoryview(FileMap(descriptor, name=url))


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None
