"""The rows that a reader will need, looked up in runs, with the dataset told one run before they are read."""

from collections.abc import Iterator
from typing import Protocol

from blixt.data.order import Int
from blixt.data.steps import Steps

_POSITIONS = 4096
"""Positions looked up at once: a lookup of so many costs little more than one of a few."""
_RUN_BYTES = 32 << 20
"""About how many bytes one run of rows may be."""


class _Order(Protocol):
    def at(self, positions: Int, /) -> Int: ...


class _Dataset(Protocol):
    @property
    def order(self) -> _Order: ...
    @property
    def row_bytes(self) -> float: ...
    def plan_ahead(self, rows: Int) -> None: ...


def planned(dataset: _Dataset, steps: Steps, chosen: range) -> Iterator[tuple[range, Int]]:
    """Yield the chosen steps in runs, with this rank's rows of all steps of the run one after the other.

    `plan_ahead` has heard of a run's rows one run before it is yielded.
    """
    order = dataset.order
    positions = min(_POSITIONS, int(_RUN_BYTES / max(dataset.row_bytes, 1)))
    count = max(1, positions // steps.batch_size)
    waiting: tuple[range, Int] | None = None
    for first in range(0, len(chosen), count):
        run = chosen[first : first + count]
        rows = order.at(steps.positions_of(run))
        dataset.plan_ahead(rows)
        if waiting is not None:
            yield waiting
        waiting = run, rows
    if waiting is not None:
        yield waiting


def rows_of_steps(dataset: _Dataset, steps: Steps, chosen: range | None = None) -> Iterator[tuple[int, Int]]:
    """Yield the chosen steps (all when None), each with this rank's rows."""
    for run, rows in planned(dataset, steps, range(len(steps)) if chosen is None else chosen):
        low = 0
        for step in run:  # only the last step of "even" may have fewer rows
            yield step, rows[low : low + steps.batch_size]
            low += steps.batch_size
