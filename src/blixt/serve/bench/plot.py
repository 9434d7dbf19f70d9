"""The latency curve in a terminal: how long, for which share of requests, at each load."""

import math
from collections.abc import Sequence

from blixt.serve.bench.report import percentile

PERCENTS = (1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9, 100)
MARKS = "ox+*#@%&"
HEIGHT = 12
_COLUMN = 6


def latency_curve(series: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Draw latencies by percentile, a mark for each series; the vertical axis is logarithmic.

    Args:
        series: Names, and sorted latencies in seconds; empty ones are left out.

    Returns:
        Lines of text; empty when there is nothing to draw.
    """
    shown = [(name, values) for name, values in series if values][: len(MARKS)]
    if not shown:
        return ""
    points = [[percentile(values, percent) * 1e3 for percent in PERCENTS] for _, values in shown]
    low = math.log10(max(min(map(min, points)), 1e-3))
    high = max(math.log10(max(map(max, points))), low + 0.1)
    rows = [[" "] * (len(PERCENTS) * _COLUMN) for _ in range(HEIGHT)]
    for mark, values in zip(MARKS, points, strict=False):
        for column, value in enumerate(values):
            up = (math.log10(max(value, 1e-3)) - low) / (high - low)
            rows[round(up * (HEIGHT - 1))][column * _COLUMN + _COLUMN - 2] = mark
    lines: list[str] = []
    for number in reversed(range(HEIGHT)):
        value = 10 ** (low + (high - low) * number / (HEIGHT - 1))
        lines.append(f"{value:>9.3g} ms |{''.join(rows[number]).rstrip()}")
    lines.append(" " * 13 + "+" + "-" * (len(PERCENTS) * _COLUMN))
    lines.append(" " * 14 + "".join(f"{f'p{percent:g}':>{_COLUMN}}" for percent in PERCENTS))
    lines.append(
        " " * 14 + "   ".join(f"{mark} {name}" for mark, (name, _) in zip(MARKS, shown, strict=False))
    )
    return "\n".join(lines)
