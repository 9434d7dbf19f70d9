"""Which positions of an epoch a rank reads at each step: pure arithmetic, applied after the order.

A run is at position `consumed` of `total`. Global step g covers the B positions from `consumed + g*B` on,
where B is the global batch (batch size x world size); rank r takes the r-th part. At the end of the epoch:

- "drop_last": a last batch that is not full is left out;
- "pad": it is filled with rows from the start of the epoch, so every batch is full and none is left out;
- "even": it is as small as it can be with equal parts, so at most `world_size - 1` rows are repeated.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from blixt.data.order import Int

End = Literal["drop_last", "pad", "even"]
ENDS: tuple[End, ...] = ("drop_last", "pad", "even")


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps that are left of an epoch, as one rank sees them.

    Example:
        >>> [Steps(total=10, batch_size=2, world_size=2, rank=1).positions(g).tolist() for g in range(2)]
        [[2, 3], [6, 7]]
    """

    total: int
    batch_size: int
    world_size: int = 1
    rank: int = 0
    consumed: int = 0
    end: End = "drop_last"

    def __post_init__(self) -> None:
        if self.end not in ENDS:
            raise ValueError(f"end must be one of {', '.join(ENDS)}, got {self.end!r}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank must be in 0..{self.world_size - 1}, got {self.rank}")

    @property
    def global_batch(self) -> int:
        """Rows that all ranks together take in one step."""
        return self.batch_size * self.world_size

    def __len__(self) -> int:
        left = max(self.total - self.consumed, 0)
        return left // self.global_batch if self.end == "drop_last" else -(-left // self.global_batch)

    def positions(self, step: int) -> Int:
        """Return this rank's positions at a step."""
        start, size = self._start_and_size(step)
        low = start + self.rank * size
        positions = np.arange(low, low + size)
        return positions if low + size <= self.total else positions % self.total

    def positions_of(self, steps: range) -> Int:
        """Return this rank's positions at many steps, one after the other."""
        if len(steps) and self._start_and_size(steps[-1])[1] < self.batch_size:  # the last one of "even"
            return np.concatenate([self.positions_of(steps[:-1]), self.positions(steps[-1])])
        starts = self.consumed + np.array(steps, np.int64) * self.global_batch + self.rank * self.batch_size
        return (starts[:, None] + np.arange(self.batch_size)).reshape(-1) % max(self.total, 1)

    def consumed_after(self, step: int) -> int:
        """Return how much of the epoch is consumed, by all ranks together, once a step is done."""
        return min(self.consumed + (step + 1) * self.global_batch, self.total)

    def _start_and_size(self, step: int) -> tuple[int, int]:
        start = self.consumed + step * self.global_batch
        if self.end != "even":
            return start, self.batch_size
        return start, min(self.batch_size, -(-(self.total - start) // self.world_size))
