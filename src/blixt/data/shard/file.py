"""The bytes of one shard, wherever they are: a mapped local file, or a sparse cache file that fills on demand."""

from collections.abc import Sequence
from typing import Protocol

Range = tuple[int, int]
"""Bytes `[start, end)` of a file."""


class ShardFile(Protocol):
    """What a `ShardReader` reads from.

    The reader calls `ensure` before it touches bytes for the first time, checks them against their checksum, and
    calls `refetch` once when they do not match. Bytes that were ensured stay in the view until `close`.
    """

    @property
    def name(self) -> str:
        """The path or URL, as error messages show it."""
        ...

    @property
    def size(self) -> int:
        """The length of the whole file in bytes."""
        ...

    @property
    def view(self) -> memoryview:
        """The whole file, read-only; bytes that were not ensured have no meaning."""
        ...

    @property
    def is_local(self) -> bool:
        """Whether all bytes are there from the start, so that `ensure` need not be called."""
        ...

    def ensure(self, ranges: Sequence[Range]) -> None:
        """Return when all these bytes are in the view.

        Raises:
            StoreError: when they cannot be had.
        """
        ...

    def prefetch(self, ranges: Sequence[Range]) -> None:
        """Begin to bring these bytes into the view, and return at once."""
        ...

    def refetch(self, start: int, end: int) -> bool:
        """Fetch bytes anew whose checksum did not match; return False where there is no other copy (locally)."""
        ...

    def close(self) -> None:
        """Give back what the file holds; the view must not be used any more."""
        ...
