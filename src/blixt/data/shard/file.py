"""The bytes of one shard: a mapped local file, or a sparse cache file that fills on demand."""

from collections.abc import Sequence
from typing import Protocol

Range = tuple[int, int]
"""Bytes `[start, end)` of a file."""


class ShardFile(Protocol):
    """What a `ShardReader` reads from.

    The reader calls `ensure` before it touches bytes for the first time, checks them against their checksum,
    and calls `refetch` once when they do not match. Bytes that were ensured stay in the view until `close`.
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
        """Fetch bytes anew whose checksum did not match; return False where there is no other copy."""
        ...

    def close(self) -> None:
        """Give back what the file holds; the view must not be used any more."""
        ...


def merge_ranges(ranges: Sequence[Range], gap: int = 0) -> list[Range]:
    """Return the ranges sorted, those that overlap or lie within `gap` bytes of each other joined.

    Example:
        >>> merge_ranges([(9, 12), (0, 4), (4, 6)])
        [(0, 6), (9, 12)]
    """
    merged: list[Range] = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1] + gap:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
