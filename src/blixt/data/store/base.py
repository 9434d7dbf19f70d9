"""The verbs of a store: whole objects, ranges and tails in; whole objects out, exclusively if need be."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from blixt.data.store.errors import UnsupportedError

Range = tuple[int, int]
"""Bytes `[start, end)` of an object."""
Take = Callable[[int, memoryview], None]
"""Takes bytes that arrived, and where in the object they begin."""


class Store(ABC):
    """Objects under a location, named by relative paths with `/` between the parts.

    A store holds no open files, travels to other processes (it connects anew there) and may be used from any
    number of threads. Reads are tried again a bounded number of times.

    Attributes:
        location: the address as people write it, such as `s3://bucket/folder`.
        local: the folder, when the store is one on this machine; else None.
        writable: whether objects can be put and deleted.
    """

    location: str
    local: Path | None = None
    writable: bool = True

    @abstractmethod
    def read(self, path: str, start: int, end: int) -> memoryview:
        """Return the bytes `[start, end)` of an object without copying them more often than needed.

        Raises:
            NotFoundError: when there is no such object.
            TruncatedError: when it ends before `end`.
            PermissionDeniedError, UnavailableError: when the store refuses or does not answer.
        """

    def read_to(self, path: str, start: int, end: int, take: Take) -> None:
        """Give the bytes `[start, end)` of an object to `take`, in order and each once, as they arrive.

        A store that can hands on what it has before all is there, so that nobody holds or copies the whole;
        a connection that breaks is taken up where it broke. What `take` raises ends the reading.

        Raises:
            NotFoundError, TruncatedError, PermissionDeniedError, UnavailableError: as `read` does.
        """
        take(start, self.read(path, start, end))

    @abstractmethod
    def get(self, path: str) -> bytes:
        """Return a whole object.

        Raises:
            NotFoundError: when there is no such object.
        """

    @abstractmethod
    def get_tail(self, path: str, size: int) -> tuple[bytes, int]:
        """Return the last `size` bytes of an object (all of it when it is shorter), and its whole size."""

    @abstractmethod
    def size(self, path: str) -> int | None:
        """Return an object's size in bytes, None when it is not there."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield path and size of every object whose path begins with the folder `prefix`, at any depth.

        The order is the store's; paths are relative to this store.

        Raises:
            UnsupportedError: when the store is one that cannot list, such as a plain web server.
        """

    @abstractmethod
    def sub(self, prefix: str) -> "Store":
        """Return the store of the objects below a folder."""

    def get_range(self, path: str, start: int, end: int) -> bytes:
        """Return the bytes `[start, end)` of an object; it raises what `read` raises."""
        return bytes(self.read(path, start, end))

    def get_ranges(self, path: str, ranges: Sequence[Range]) -> "list[bytes]":
        """Return several ranges of an object, in the order asked for."""
        return [self.get_range(path, start, end) for start, end in ranges]

    def put(self, path: str, data: bytes) -> None:
        """Write an object, all at once or not at all; one that is there is replaced.

        Raises:
            UnsupportedError: when the store is read-only.
        """
        raise self._read_only(path)

    def put_file(self, path: str, local: Path) -> None:
        """Write an object from a local file, all at once or not at all, in parts where it is large."""
        raise self._read_only(path)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Write an object unless there is one by that path; of several writers exactly one gets True.

        Raises:
            UnsupportedError: when the store is read-only, or does not know exclusive creation.
        """
        raise self._read_only(path)

    def delete(self, path: str) -> None:
        """Delete an object; one that is not there is no error."""
        raise self._read_only(path)

    def check_writable(self) -> None:
        """See that this kind of store can be written to; nothing is asked of it.

        Raises:
            UnsupportedError: when it cannot.
        """
        if not self.writable:
            raise self._read_only("")

    def url(self, path: str) -> str:
        """Return an object's address, for messages."""
        return f"{self.location.rstrip('/')}/{path}" if path else self.location

    def _read_only(self, path: str) -> UnsupportedError:
        return UnsupportedError(
            f"cannot write {self.url(path)}: this kind of store is read-only; write to a folder, s3://, "
            "gs:// or az://"
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.location!r})"
