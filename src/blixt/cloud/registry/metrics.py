"""Points of curves: how they are packed for the database and thinned for a plot. Pure functions."""

import math
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any


@dataclass(frozen=True)
class MetricRow:
    """The metrics of one step."""

    step: int
    time: float
    values: Mapping[str, float]


@dataclass
class Series:
    """One metric's points, in order of step."""

    steps: "array[int]" = field(default_factory=lambda: array("q"))
    times: "array[float]" = field(default_factory=lambda: array("d"))
    values: "array[float]" = field(default_factory=lambda: array("d"))

    def to_json(self) -> dict[str, Any]:
        """Return the series as the API sends it; NaN and infinities as strings."""
        return {
            "step": self.steps.tolist(),
            "value": [number_json(value) for value in self.values],
            "time": self.times.tolist(),
        }


def number_json(value: float) -> float | str:
    """Return a number as JSON can hold it: NaN and infinities become strings.

    >>> number_json(float("-inf"))
    '-inf'
    """
    return value if math.isfinite(value) else str(value)


def by_name(rows: Iterable[MetricRow]) -> dict[str, Series]:
    """Turn rows of several metrics into a series for each."""
    found: dict[str, Series] = {}
    for row in rows:
        for name, value in row.values.items():
            series = found.setdefault(name, Series())
            series.steps.append(row.step)
            series.times.append(row.time)
            series.values.append(value)
    return found


def pack(numbers: "array[int] | array[float]") -> bytes:
    """Return numbers as little-endian bytes."""
    data = array(numbers.typecode, numbers)
    if sys.byteorder == "big":
        data.byteswap()
    return data.tobytes()


def unpack(chunks: Iterable[tuple[bytes, bytes, bytes]]) -> Series:
    """Return the series of packed steps, times and values."""
    series = Series()
    for steps, times, values in chunks:
        series.steps.frombytes(steps)
        series.times.frombytes(times)
        series.values.frombytes(values)
    if sys.byteorder == "big":
        for numbers in (series.steps, series.times, series.values):
            numbers.byteswap()
    return series


def in_order(series: Series) -> Series:
    """Return the series by growing step; of a step logged twice (a resumed run) the later value stays."""
    steps = series.steps
    if all(left < right for left, right in pairwise(steps)):
        return series
    last = {step: index for index, step in enumerate(steps)}
    return pick(series, [last[step] for step in sorted(last)])


def after_step(series: Series, step: int) -> Series:
    """Return the points with a larger step."""
    return pick(series, [index for index, found in enumerate(series.steps) if found > step])


def thin(series: Series, max_points: int) -> Series:
    """Return at most `max_points` points that keep the curve's shape: the least and greatest of each stretch.

    The first and the last point stay. A stretch with a NaN keeps one NaN, because that is what one looks for.
    """
    count = len(series.steps)
    if count <= max_points:
        return series
    if max_points < 5:
        return pick(series, [count - 1] if max_points == 1 else [0, count - 1])
    # Three points a stretch only where there is a NaN, so the bound holds for any data.
    stretches = (max_points - 2) // (3 if math.isnan(sum(series.values)) else 2)
    kept = {0, count - 1}
    for number in range(stretches):
        begin, end = number * count // stretches, (number + 1) * count // stretches
        kept.update(begin + offset for offset in _extremes(series.values[begin:end]))
    return pick(series, sorted(kept))


def _extremes(values: "array[float]") -> list[int]:
    if not math.isnan(sum(values)):
        return [values.index(min(values)), values.index(max(values))]
    numbers = [index for index, value in enumerate(values) if not math.isnan(value)]
    missing = next((index for index, value in enumerate(values) if math.isnan(value)), None)
    found = [] if missing is None else [missing]
    if numbers:
        found += [min(numbers, key=values.__getitem__), max(numbers, key=values.__getitem__)]
    return found


def pick(series: Series, indices: Sequence[int]) -> Series:
    """Return the points at these indices."""
    return Series(
        array("q", [series.steps[index] for index in indices]),
        array("d", [series.times[index] for index in indices]),
        array("d", [series.values[index] for index in indices]),
    )
