"""A folder on this machine as a store: writes appear whole, exclusive creation is a hard link."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from blixt.data.errors import WriteError
from blixt.data.store.base import Store
from blixt.data.store.errors import NotFoundError, PermissionDeniedError, StoreError, TruncatedError

T = TypeVar("T")
TEMPORARY = ".tmp-"
"""Names that begin so are files being written; they are never listed."""


class LocalStore(Store):
    """The files under a folder.

    Args:
        folder: where the files are; it is created by the first write.
    """

    def __init__(self, folder: Path) -> None:
        self.local = self._folder = folder
        self.location = str(folder)

    def read(self, path: str, start: int, end: int) -> memoryview:
        """Return the bytes `[start, end)` of a file."""
        return memoryview(self._read(path, lambda fd: _pread(fd, start, end, self.url(path))))

    def get(self, path: str) -> bytes:
        """Return a whole file."""
        return self._read(path, lambda fd: _pread(fd, 0, os.fstat(fd).st_size, self.url(path)))

    def get_tail(self, path: str, size: int) -> tuple[bytes, int]:
        """Return the last bytes of a file, and its size."""

        def tail(fd: int) -> tuple[bytes, int]:
            total = os.fstat(fd).st_size
            return _pread(fd, max(0, total - size), total, self.url(path)), total

        return self._read(path, tail)

    def size(self, path: str) -> int | None:
        """Return a file's size in bytes, None when it is not there."""
        try:
            return (self._folder / path).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as problem:
            raise _explained(problem, "look at", self.url(path)) from problem

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield path and size of every file below the folder `prefix`, in the order of their names."""
        top = self._folder / prefix
        for folder, folders, files in os.walk(top):
            folders.sort()
            for name in sorted(files):
                if name.startswith(TEMPORARY):
                    continue
                file = Path(folder, name)
                try:
                    size = file.stat().st_size
                except FileNotFoundError:
                    continue
                yield file.relative_to(self._folder).as_posix(), size

    def sub(self, prefix: str) -> "LocalStore":
        """Return the store of a folder below this one."""
        return LocalStore(self._folder / prefix)

    def put(self, path: str, data: bytes) -> None:
        """Write a file: it appears whole, under its name, or not at all."""
        self._write(path, lambda temporary: _write_new(temporary, data), os.replace)

    def put_file(self, path: str, local: Path) -> None:
        """Copy a file into the store; it appears whole or not at all."""
        self._write(path, lambda temporary: _copy_new(temporary, local), os.replace)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Write a file unless there is one by that name."""

        def link(temporary: Path, target: Path) -> None:
            try:
                os.link(temporary, target)
            except FileExistsError:
                raise _Exists from None

        try:
            self._write(path, lambda temporary: _write_new(temporary, data), link)
        except _Exists:
            return False
        return True

    def delete(self, path: str) -> None:
        """Delete a file; one that is not there is no error."""
        try:
            (self._folder / path).unlink(missing_ok=True)
        except OSError as problem:
            raise _explained(problem, "delete", self.url(path)) from problem

    def _read(self, path: str, use: Callable[[int], T]) -> T:
        try:
            descriptor = os.open(self._folder / path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as problem:
            raise _explained(problem, "read", self.url(path)) from problem
        try:
            return use(descriptor)
        except OSError as problem:
            raise _explained(problem, "read", self.url(path)) from problem
        finally:
            os.close(descriptor)

    def _write(self, path: str, fill: Callable[[Path], None], name: Callable[[Path, Path], None]) -> None:
        target = self._folder / path
        temporary = target.parent / f"{TEMPORARY}{uuid4().hex}"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                fill(temporary)
                name(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)
            _sync_folder(target.parent)
        except _Exists:
            raise
        except OSError as problem:
            raise _explained_write(problem, self.url(path)) from problem


class _Exists(Exception):
    """Another writer was first."""


def _pread(fd: int, start: int, end: int, address: str) -> bytes:
    parts: list[bytes] = []
    at = start
    while at < end:
        part = os.pread(fd, end - at, at)
        if not part:
            raise TruncatedError(
                f"{address} has {os.fstat(fd).st_size} bytes, too few for bytes {start} to {end}; "
                "restore it from a copy"
            )
        parts.append(part)
        at += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _write_new(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _copy_new(path: Path, source: Path) -> None:
    shutil.copyfile(source, path)
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explained(problem: OSError, verb: str, address: str) -> StoreError:
    if isinstance(problem, (FileNotFoundError, NotADirectoryError)):
        return NotFoundError(f"{address} is not there; check the path, or restore it from a copy")
    if isinstance(problem, PermissionError):
        return PermissionDeniedError(f"may not {verb} {address}: {problem.strerror}; change its permissions")
    return StoreError(f"cannot {verb} {address}: {problem.strerror or problem}; check the disk and ulimit -n")


def _explained_write(problem: OSError, address: str) -> WriteError:
    return WriteError(
        f"cannot write {address}: {problem.strerror or problem}; make room or choose another folder, then "
        "run again"
    )
