"""What every dataset shares: rows by number, an order per epoch, this rank's part of it, a small state."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

import numpy as np

from blixt.data.errors import DataError
from blixt.data.order import Int, Order
from blixt.data.steps import Steps
from blixt.data.world import world

T = TypeVar("T")
_ORDER_BLOCK_BYTES = 1 << 20
_LOOKUP = 4096
"""Positions whose rows are looked up at once when iterating."""
_READ = 64
"""Items read at once when iterating one by one."""


class Rows(ABC, Generic[T]):
    """A dataset whose item `i` is the i-th row of the epoch's order (the stored order without shuffle).

    Iteration yields this rank's rows from where the state says. The state counts rows that *all ranks
    together* consumed, so a run may resume with another world size, batch size or number of workers.
    """

    def __init__(
        self,
        *,
        rows: int,
        row_bytes: float,
        identity: dict[str, Any],
        shuffle: bool,
        seed: int,
        window: int,
        rank: int | None,
        world_size: int | None,
    ) -> None:
        self._rows = rows
        self._block_rows = max(1, int(_ORDER_BLOCK_BYTES / max(row_bytes, 1)))
        self._identity = identity
        self.shuffle = shuffle
        self.seed = seed
        self.window = window
        self.rank, self.world_size = world(rank, world_size)
        self.epoch = 0
        self.consumed = 0
        self._resume_at = 0
        self._order: Order | None = None

    @abstractmethod
    def gather(self, rows: Int) -> Any:
        """Return the rows (by their stored number) as one batch."""

    @abstractmethod
    def item(self, row: int) -> T:
        """Return one row, by its stored number."""

    def items(self, rows: Int) -> list[T]:
        """Return the rows, by their stored numbers, one by one."""
        return [self.item(row) for row in rows.tolist()]

    def __len__(self) -> int:
        return self._rows

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return self.__getitems__(range(*index.indices(len(self))))
        if not -self._rows <= index < self._rows:
            raise IndexError(f"index {index} is out of range: the dataset has {self._rows} items")
        position = index % self._rows
        return self.item(int(self.order.at(np.array([position]))[0]) if self.shuffle else position)

    def __getitems__(self, indices: Sequence[int]) -> list[T]:
        """Return several items at once; torch's DataLoader calls this where it exists."""
        return self.items(self._rows_at(indices))

    def read_batch(self, ids: Sequence[int] | Int) -> Any:
        """Return the items at these indices as one batch, in one gather.

        Raises:
            IndexError: when an index is out of range; negative ones count from the end.
        """
        return self.gather(self._rows_at(ids))

    def _rows_at(self, ids: Sequence[int] | Int) -> Int:
        positions = np.asarray(ids, np.int64)
        wrong = positions[(positions < -len(self)) | (positions >= len(self))]
        if len(wrong):
            raise IndexError(f"index {wrong[0]} is out of range: the dataset has {len(self)} items")
        return self.order.at(np.where(positions < 0, positions + len(self), positions))

    def __iter__(self) -> Iterator[T]:
        for rows, consumed in self.runs():
            for item, after in zip(self.items(rows), consumed, strict=True):
                self.advance(int(after))
                yield item
        self.finish()

    def runs(self) -> Iterator[tuple[Int, Int]]:
        """Begin an iteration: yield this rank's rows in runs, and how much is consumed once each was read."""
        steps = Steps(len(self), 1, self.world_size, self.rank, self.begin(), "even")
        for first in range(0, len(steps), _LOOKUP):
            run = range(first, min(first + _LOOKUP, len(steps)))
            rows = self.order.at(np.concatenate([steps.positions(step) for step in run]))
            consumed = np.array([steps.consumed_after(step) for step in run])
            for low in range(0, len(rows), _READ):
                yield rows[low : low + _READ], consumed[low : low + _READ]

    @property
    def order(self) -> Order:
        """The order of the current epoch."""
        if self._order is None:
            self._order = Order(
                self._rows, self._block_rows, self.seed, self.epoch, self.shuffle, self.window
            )
        return self._order

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration reads; naming the current one keeps a resumed position."""
        if epoch != self.epoch:
            self.epoch, self.consumed, self._resume_at, self._order = epoch, 0, 0, None

    def begin(self) -> int:
        """Start an iteration: return the position to start from, 0 unless a state was just loaded."""
        self.consumed, self._resume_at = self._resume_at, 0
        return self.consumed

    def advance(self, consumed: int) -> None:
        """Record how many positions all ranks together have consumed."""
        self.consumed = consumed

    def finish(self) -> None:
        """End the epoch: the next iteration reads the next one."""
        self.set_epoch(self.epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        """Return where the epoch stands: a few numbers, equal on every rank."""
        return {
            **self._identity,
            "shuffle": self.shuffle,
            "seed": self.seed,
            "block_rows": self._block_rows,
            "window": self.window,
            "epoch": self.epoch,
            "consumed": self.consumed,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state; the next iteration starts at exactly the row after the last one consumed.

        Raises:
            DataError: when the state belongs to other data or another order.
        """
        missing = self.state_dict().keys() - state.keys()
        if missing:
            raise DataError(f"this is not a state of a dataset: it lacks {', '.join(sorted(missing))}")
        for name, value in self._identity.items():
            if state.get(name) != value:
                raise DataError(
                    f"this state belongs to other data: its {name} is {state.get(name)!r} and here it is "
                    f"{value!r}; "
                    "open the dataset and version that the state was saved with"
                )
        self.shuffle, self.seed, self.window = state["shuffle"], state["seed"], state["window"]
        self._block_rows, self.epoch = state["block_rows"], state["epoch"]
        self.consumed = self._resume_at = state["consumed"]
        self._order = None
