"""Which dataset each row of a mix comes from: exact shares, evenly spread, seekable in O(1).

Weights become whole *counts per period*. In a period, each dataset's turns are spread evenly with some
jitter, so any stretch of rows has the right shares within a row or so, and each whole period has them
exactly. The turns of one period are stored (at most 65,536 numbers); row t of the epoch is arithmetic on
them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from blixt.data.order import Int
from blixt.data.permute import mix, mix_numbers

_MAX_PERIOD = 1 << 16
_MIN_PERIOD = 1 << 10


def counts_per_period(weights: Sequence[float]) -> tuple[int, ...]:
    """Return whole counts in the ratio of the weights.

    The ratio is exact where the weights are ratios of small whole numbers, else to one in 65,536.

    Example:
        >>> counts_per_period([0.5, 0.25, 0.25])
        (512, 256, 256)
    """
    shares = [Fraction(weight).limit_denominator(1_000_000) for weight in weights]
    if min(shares) > 0:
        whole = sum(shares)
        period = math.lcm(*((share / whole).denominator for share in shares))
        if period <= _MAX_PERIOD:
            period *= max(1, _MIN_PERIOD // period)
            return tuple(int(share / whole * period) for share in shares)
    return _rounded(weights)


def _rounded(weights: Sequence[float]) -> tuple[int, ...]:
    """Share out the longest period by largest remainder, with at least one turn for each."""
    exact = np.array(weights, float) / sum(weights) * (_MAX_PERIOD - len(weights))
    counts = np.floor(exact).astype(int)
    most_short = np.argsort(counts - exact, kind="stable")
    counts[most_short[: _MAX_PERIOD - len(weights) - int(counts.sum())]] += 1
    return tuple((counts + 1).tolist())


class Turns:
    """The endless sequence of turns that counts per period make.

    Args:
        counts: each dataset's turns in a period.
        key: names the jitter.
    """

    def __init__(self, counts: Sequence[int], key: int) -> None:
        self._counts = np.array(counts, np.int64)
        times = [_jittered(count, mix_numbers(key, number)) for number, count in enumerate(counts)]
        owner = np.repeat(np.arange(len(counts)), counts)
        self._owner = owner[np.argsort(np.concatenate(times), kind="stable")]
        self._slots = [np.flatnonzero(self._owner == number) for number in range(len(counts))]
        self._before = np.empty(len(owner), np.int64)
        for slots in self._slots:
            self._before[slots] = np.arange(len(slots))

    def at(self, turns: Int) -> tuple[Int, Int]:
        """Return whose turn each is, and how many that dataset had before."""
        periods, place = np.divmod(turns, len(self._owner))
        owner = self._owner[place]
        return owner, periods * self._counts[owner] + self._before[place]

    def turn_of(self, owner: int, number: int) -> int:
        """Return which turn is this dataset's n-th (from 0)."""
        periods, place = divmod(number, int(self._counts[owner]))
        return periods * len(self._owner) + int(self._slots[owner][place])

    def had(self, owner: int, turns: int) -> int:
        """Return how many of the first turns are this dataset's."""
        periods, place = divmod(turns, len(self._owner))
        return periods * int(self._counts[owner]) + int(np.searchsorted(self._slots[owner], place))


def _jittered(count: int, key: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    noise = mix(np.arange(count), np.uint64(key)) / 2.0**64
    return (np.arange(count) + noise) / max(count, 1)


@dataclass(frozen=True)
class Phase:
    """A stretch of a mix in which the same datasets take turns.

    Args:
        start: the first row of the stretch.
        turns: who takes turns.
        members: the number of each dataset that does.
        given: how many rows each of them gave before.
        group: rows in a turn.
    """

    start: int
    turns: Turns
    members: Int
    given: Int
    group: int

    def at(self, rows: Int) -> tuple[Int, Int]:
        """Return each row's dataset, and which row of that dataset it is (going round beyond its end)."""
        turn, inside = np.divmod(rows - self.start, self.group)
        owner, before = self.turns.at(turn)
        return self.members[owner], self.given[owner] + before * self.group + inside
