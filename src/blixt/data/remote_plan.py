"""Which granules of a file to ask for in one request: pure arithmetic."""

from collections.abc import Iterable, Sequence

from blixt.data.cache_file import GRANULE

Span = tuple[int, int]
"""Granules `[low, high)` of a file."""

MOST_BYTES = 8 << 20
"""No request asks for more: several run side by side, and a repeated one costs little."""
GAP_BYTES = 256 << 10
"""Bytes between two wanted ranges that are cheaper to fetch along than a second request."""


def covering(start: int, end: int) -> Span:
    """Return the granules that hold the bytes `[start, end)`.

    Example:
        >>> covering(10, GRANULE + 1)
        (0, 2)
    """
    return start // GRANULE, -(-end // GRANULE)


def runs(granules: Iterable[int]) -> list[Span]:
    """Return granules, in rising order, as spans of neighbours.

    Example:
        >>> runs([1, 2, 3, 7])
        [(1, 4), (7, 8)]
    """
    spans: list[Span] = []
    for granule in granules:
        if spans and granule == spans[-1][1]:
            spans[-1] = (spans[-1][0], granule + 1)
        else:
            spans.append((granule, granule + 1))
    return spans


def requests(spans: Sequence[Span], gap_bytes: int = GAP_BYTES, most_bytes: int = MOST_BYTES) -> list[Span]:
    """Join sorted spans that lie close to each other, and cut what is too much for one request.

    Example:
        >>> requests([(0, 1), (3, 4), (40, 41)], gap_bytes=2 * GRANULE)
        [(0, 4), (40, 41)]
        >>> requests([(0, 5)], most_bytes=2 * GRANULE)
        [(0, 2), (2, 4), (4, 5)]
    """
    joined: list[Span] = []
    for low, high in spans:
        if joined and (low - joined[-1][1]) * GRANULE <= gap_bytes:
            joined[-1] = (joined[-1][0], high)
        else:
            joined.append((low, high))
    most = max(1, most_bytes // GRANULE)
    return [(at, min(at + most, high)) for low, high in joined for at in range(low, high, most)]
