"""A round in numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from blixt.serve.bench.load import Round


@dataclass(frozen=True, slots=True)
class Summary:
    """One line of a report. `None` where nothing was measured."""

    concurrency: int
    rate: float | None
    answered: int
    failed: int
    statuses: dict[str, int]
    per_second: float
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    first_p50_ms: float | None
    pieces_per_second: float | None
    cpu_us_per_request: float | None
    cpu_us_per_piece: float | None


def summarise(seen: Round) -> Summary:
    """What a round says: good answers are those with a status below 400."""
    answered = len(seen.latencies)
    work = None if seen.cpu_seconds is None else seen.cpu_seconds * 1e6
    return Summary(
        concurrency=seen.concurrency,
        rate=seen.rate,
        answered=answered,
        failed=sum(seen.statuses.values()) - answered,
        statuses={str(status or "lost"): count for status, count in sorted(seen.statuses.items())},
        per_second=answered / seen.seconds if seen.seconds else 0.0,
        p50_ms=_ms(seen.latencies, 50),
        p90_ms=_ms(seen.latencies, 90),
        p99_ms=_ms(seen.latencies, 99),
        max_ms=_ms(seen.latencies, 100),
        first_p50_ms=_ms(seen.first_pieces, 50) if seen.pieces else None,
        pieces_per_second=seen.pieces / seen.seconds if seen.pieces else None,
        cpu_us_per_request=work / answered if work is not None and answered else None,
        cpu_us_per_piece=work / seen.pieces if work is not None and seen.pieces else None,
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` % of the sorted values do not exceed.

    >>> percentile([1, 2, 3, 4], 50), percentile([1, 2, 3, 4], 100)
    (2, 4)
    """
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _ms(ordered: Sequence[float], percent: float) -> float | None:
    return percentile(ordered, percent) * 1e3 if ordered else None
