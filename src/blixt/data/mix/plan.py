"""How long a mix is and who takes turns when, for each rule of ending: decided once, from its sizes."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from blixt.data.mix.schedule import Phase, Turns, counts_per_period
from blixt.data.order import Int

Stop = Literal["first", "all", "once"]
STOPS: tuple[Stop, ...] = ("first", "all", "once")


class Plan:
    """The phases of one epoch of a mix.

    Args:
        sizes: rows of each dataset.
        weights: their shares.
        stop: "first": the epoch ends where a dataset has no more rows; "all": where each was read whole,
        the smaller
            ones going round; "once": each row comes once, and a dataset that is read drops out.
        length: rows of the epoch; then all go round as often as needed, whatever `stop`.
        group: rows in a turn.
        key: names the sequence of turns.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        weights: Sequence[float],
        *,
        stop: Stop,
        length: int | None,
        group: int,
        key: int,
    ) -> None:
        self._sizes, self._weights, self._group, self._key = sizes, weights, group, key
        everyone = list(range(len(sizes)))
        self.phases: list[Phase]
        if length is None and stop == "once":
            self.phases, self.total = self._once(everyone)
        else:
            self.phases = [self._phase(everyone, 0, np.zeros(len(sizes), np.int64))]
            self.total = self._end(stop) if length is None else length
        self._starts: Int = np.array([phase.start for phase in self.phases])

    def at(self, rows: Int) -> tuple[Int, Int]:
        """Return each row's dataset, and which row of that dataset it is (going round beyond its end)."""
        if len(self.phases) == 1:
            return self.phases[0].at(rows)
        part = np.searchsorted(self._starts, rows, "right") - 1
        owner, number = np.empty_like(rows), np.empty_like(rows)
        for each, phase in enumerate(self.phases):
            here = np.flatnonzero(part == each)
            owner[here], number[here] = phase.at(rows[here])
        return owner, number

    def rounds(self, dataset: int) -> int:
        """Return how many times an epoch goes round a dataset, begun rounds included."""
        if len(self.phases) > 1:
            return 1
        turns = -(-self.total // self._group)
        rows = self.phases[0].turns.had(dataset, turns) * self._group
        return max(1, -(-rows // self._sizes[dataset]))

    def _phase(self, members: list[int], start: int, given: Int, group: int | None = None) -> Phase:
        counts = counts_per_period([self._weights[member] for member in members])
        turns = Turns(counts, self._key)
        return Phase(start, turns, np.array(members), given[members], group or self._group)

    def _end(self, stop: Stop) -> int:
        turns, group = self.phases[0].turns, self._group
        if stop == "first":
            return min(turns.turn_of(i, size // group) for i, size in enumerate(self._sizes)) * group
        return (
            max(turns.turn_of(i, -(-size // group) - 1) for i, size in enumerate(self._sizes)) + 1
        ) * group

    def _once(self, members: list[int]) -> tuple[list[Phase], int]:
        """Let a dataset drop out where its last whole turn is over; what is left of each comes at the end."""
        phases: list[Phase] = []
        start, given = 0, np.zeros(len(members), np.int64)
        left = [i for i in members if self._sizes[i] >= self._group]
        while left:
            phase = self._phase(left, start, given)
            ends = [
                phase.turns.turn_of(n, (self._sizes[i] - int(given[i])) // self._group - 1) + 1
                for n, i in enumerate(left)
            ]
            turns = min(ends)
            for n, i in enumerate(left):
                given[i] += phase.turns.had(n, turns) * self._group
            phases.append(phase)
            start += turns * self._group
            left = [i for i in left if self._sizes[i] - given[i] >= self._group]
        for i in members:
            if rest := self._sizes[i] - int(given[i]):
                phases.append(self._phase([i], start, given, group=1))
                start += rest
        return phases, start
