"""Which granules of a file to ask for in one request: pure arithmetic."""

from collections.abc import Sequence

from blixt.data.cache_file import GRANULE, Span

MOST_BYTES = 8 << 20
"""No request asks for more: several run side by side, and a repeated one costs little."""
GAP_BYTES = 256 << 10
"""Bytes between two wanted ranges that are cheaper to fetch along than a second request."""
REPEATED_BYTES = 128 << 10
"""The same for bytes that are here already, which nobody gains from."""


def covering(start: int, end: int) -> Span:
    """Return the granules that hold the bytes `[start, end)`.

    Example:
        >>> covering(10, GRANULE + 1)
        (0, 2)
    """
    return start // GRANULE, -(-end // GRANULE)


def pieces(start: int, end: int, size: int) -> tuple[int, int]:
    """Return the bytes `[start, end)` rounded outwards to whole pieces of a size.

    Example:
        >>> pieces(10, 25, 10)
        (10, 30)
    """
    return start // size * size, -(-end // size) * size


def requests(spans: Sequence[Span], gap_bytes: int = GAP_BYTES, most_bytes: int = MOST_BYTES) -> list[Span]:
    """Join sorted spans that lie close to each other, and cut what is too much for one request.

    Spans are joined over a gap of `gap_bytes`, or of a quarter of what was joined before it.

    Example:
        >>> requests([(0, 1), (3, 4), (40, 41)], gap_bytes=2 * GRANULE)
        [(0, 4), (40, 41)]
        >>> requests([(0, 5)], most_bytes=2 * GRANULE)
        [(0, 2), (2, 4), (4, 5)]
    """
    joined: list[Span] = []
    for low, high in spans:
        if joined and low - joined[-1][1] <= max(gap_bytes // GRANULE, (joined[-1][1] - joined[-1][0]) // 4):
            joined[-1] = (joined[-1][0], high)
        else:
            joined.append((low, high))
    most = max(1, most_bytes // GRANULE)
    return [(at, min(at + most, high)) for low, high in joined for at in range(low, high, most)]


def bridged(spans: Sequence[Span], gap_bytes: int = REPEATED_BYTES) -> list[Span]:
    """Join sorted spans over what is here or on its way: only over as little as is cheap to fetch again.

    Example:
        >>> bridged([(0, 1), (2, 3), (40, 41)], gap_bytes=GRANULE)
        [(0, 3), (40, 41)]
    """
    joined: list[Span] = []
    for low, high in spans:
        if joined and low - joined[-1][1] <= gap_bytes // GRANULE:
            joined[-1] = (joined[-1][0], high)
        else:
            joined.append((low, high))
    return joined
