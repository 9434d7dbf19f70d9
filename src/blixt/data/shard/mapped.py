"""A shard file on this machine, mapped into memory or held in it."""

from collections.abc import Sequence
from pathlib import Path

from blixt.data.errors import DataError, DatasetNotFoundError, FormatError
from blixt.data.filemap import FileMap
from blixt.data.shard.file import Range


class MappedFile:
    """A local `ShardFile`.

    Raises:
        DatasetNotFoundError: when the file is not there.
        FormatError: when it is empty.
        DataError: when it cannot be opened.
    """

    is_local = True

    def __init__(self, path: str | Path) -> None:
        self.name = str(path)
        self.view = memoryview(_map_file(path))
        self.size = len(self.view)

    def ensure(self, ranges: Sequence[Range]) -> None:
        """Do nothing: the bytes are there."""

    def prefetch(self, ranges: Sequence[Range]) -> None:
        """Do nothing: the kernel reads ahead."""

    def refetch(self, start: int, end: int) -> bool:
        """Return False: there is no other copy."""
        return False

    def close(self) -> None:
        """Do nothing: the map goes with the last array that looks into it."""


class MemoryFile:
    """A `ShardFile` whose bytes are in memory, such as a small one that was fetched whole."""

    is_local = True

    def __init__(self, name: str, data: bytes | memoryview) -> None:
        self.name = name
        self.view = memoryview(data)
        self.size = len(data)

    def ensure(self, ranges: Sequence[Range]) -> None:
        """Do nothing: the bytes are there."""

    def prefetch(self, ranges: Sequence[Range]) -> None:
        """Do nothing: the bytes are there."""

    def refetch(self, start: int, end: int) -> bool:
        """Return False: there is no other copy."""
        return False

    def close(self) -> None:
        """Do nothing: the bytes go with the last array that looks into them."""


def _map_file(path: str | Path) -> FileMap:
    try:
        with open(path, "rb") as file:
            return FileMap(file.fileno(), name=f"shard {path}")
    except FileNotFoundError:
        raise DatasetNotFoundError(
            f"shard {path} is missing; restore it from a copy or build it again"
        ) from None
    except OSError as problem:
        raise DataError(
            f"cannot open shard {path}: {problem.strerror}; check its permissions and ulimit -n"
        ) from None
    except ValueError:
        raise FormatError(
            f"shard {path} was cut short: it is empty; restore it from a copy or build it again"
        ) from None
