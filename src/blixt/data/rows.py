"""What every dataset shares: rows by number, an order per epoch, this rank's part of it, a small state."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar, overload

import numpy as np

from blixt.data.ahead import planned
from blixt.data.errors import DataError
from blixt.data.order import ALGORITHM, Int, Order
from blixt.data.schema import Structure
from blixt.data.steps import Steps
from blixt.data.world import world

T = TypeVar("T")
Allocate = Callable[[tuple[int, ...], Any], np.ndarray[Any, Any]]
"""`(shape, dtype) -> array`: where a batch's arrays get their memory, `np.empty` unless a loader says so."""
_ORDER_BLOCK_BYTES = 1 << 20
_READ = 64
"""Items read at once when iterating one by one."""
_MAX_ORDERS = 4
"""Orders of other epochs kept at hand, for mixes that go round a dataset several times."""


class RowOrder(Protocol):
    """The order of one epoch: position in, row out."""

    def at(self, positions: Int, /) -> Int:
        """Return the rows at these positions."""
        ...


class Rows(ABC, Generic[T]):
    """A dataset whose item `i` is the i-th row of the epoch's order (the stored order without shuffle).

    Iteration yields this rank's rows from where the state says. The state counts rows that *all ranks
    together* consumed, so a run may resume with another world size, batch size or number of workers.

    A dataset gives its rows by their stored number through `gather`, `item` and, where it can read ahead,
    `plan_ahead`; all the rest is here.
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
        world(rank, world_size)  # what is wrong is said here, not at the first batch
        if window < 1:
            raise ValueError(f"window must be at least 1 block, got {window}")
        if not isinstance(seed, (int, np.integer)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"seed must be a whole number, got {seed!r}")
        self._rows = rows
        self._row_bytes = row_bytes
        self._block_rows = max(1, int(_ORDER_BLOCK_BYTES / max(row_bytes, 1)))
        self._identity = identity
        self.shuffle = shuffle
        self.seed = seed
        self.window = window
        self._rank, self._world_size = rank, world_size
        self.epoch = 0
        self.consumed = 0
        self._resume_at = 0
        self._orders: dict[int, RowOrder] = {}

    @abstractmethod
    def gather(self, rows: Int, allocate: Allocate = np.empty) -> Any:
        """Return the rows (by their stored number) as one batch, whose arrays `allocate` makes."""

    @abstractmethod
    def item(self, row: int) -> T:
        """Return one row, by its stored number."""

    def items(self, rows: Int) -> list[T]:
        """Return the rows, by their stored numbers, one by one."""
        return [self.item(row) for row in rows.tolist()]

    def views(self, rows: Int, allocate: Allocate = np.empty) -> Any:
        """Return what `gather` does, with memoryviews in place of `bytes` where it can."""
        return self.gather(rows, allocate)

    def batches(self, rows: Int, size: int) -> Iterator[Any] | None:
        """Yield what `views` returns for each `size` of the rows, having looked them up together.

        None where that would cost more than one batch at a time: memory, or the wait for what is not here.
        """
        return None

    def plan_ahead(self, rows: Int) -> None:
        """Hear which stored rows will be read soon, in order of use; returns at once."""

    @property
    def row_bytes(self) -> float:
        """About how many stored bytes a row has."""
        return self._row_bytes

    @property
    def structure(self) -> Structure | None:
        """The tree of a sample as a schema has it, None where that is not known."""
        return None

    @property
    def identity(self) -> dict[str, Any]:
        """What a state must agree with to belong to this dataset."""
        return self._identity

    @property
    def ranks_given(self) -> tuple[int | None, int | None]:
        """The rank and world size that the constructor was told; None where the environment says."""
        return self._rank, self._world_size

    @property
    def rank(self) -> int:
        """This process's rank: as given, else what torch.distributed or the environment says now."""
        return world(self._rank, self._world_size)[0]

    @property
    def world_size(self) -> int:
        """The number of ranks: as given, else what torch.distributed or the environment says now."""
        return world(self._rank, self._world_size)[1]

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
        position = int(index) % self._rows
        return self.item(int(self.order.at(np.array([position]))[0]) if self.is_ordered else position)

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
        steps = Steps(len(self), 1, self.world_size, self.rank, self.begin(), "even")
        if not len(steps):
            self.finish()
        for run, rows in planned(self, steps, range(len(steps))):
            for low in range(0, len(rows), _READ):
                items = self.items(rows[low : low + _READ])
                for step, item in zip(run[low : low + _READ], items, strict=True):
                    self.advance(steps, step)
                    yield item

    @property
    def order(self) -> RowOrder:
        """The order of the current epoch."""
        return self.order_of(self.epoch)

    def order_of(self, epoch: int) -> RowOrder:
        """Return the order of any epoch."""
        order = self._orders.get(epoch)
        if order is None:
            if len(self._orders) >= _MAX_ORDERS:
                self._orders.pop(next(iter(self._orders)), None)
            order = self._orders[epoch] = self._make_order(epoch)
        return order

    def _make_order(self, epoch: int) -> RowOrder:
        return Order(self._rows, self._block_rows, self.seed, epoch, self.shuffle, self.window)

    @property
    def is_ordered(self) -> bool:
        """Whether position and row number differ."""
        return self.shuffle

    def subset(self, rows: slice | range | Sequence[int] | Int) -> "Rows[T]":
        """Return the rows of these stored numbers as a dataset; see `blixt.data.subset`."""
        from blixt.data.subset import subset

        return subset(self, rows)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration reads; naming the current one keeps a resumed position."""
        if epoch != self.epoch:
            self.epoch, self.consumed, self._resume_at = epoch, 0, 0

    @property
    def resume_at(self) -> int:
        """Where the next iteration starts: 0 unless a state was just loaded."""
        return self._resume_at

    def begin(self) -> int:
        """Start an iteration: return the position to start from, 0 unless a state was just loaded."""
        self.consumed, self._resume_at = self._resume_at, 0
        return self.consumed

    def advance(self, steps: Steps, step: int) -> None:
        """Record that a step is handed out; with the last one the epoch is over, asked on or not."""
        if step + 1 == len(steps):
            self.finish()
        else:
            self.consumed = steps.consumed_after(step)

    def finish(self) -> None:
        """End the epoch: the next iteration reads the next one."""
        self.set_epoch(self.epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        """Return where the epoch stands: a few numbers, equal on every rank."""
        return {**self._identity, **self.settings(), "epoch": self.epoch, "consumed": self.consumed}

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
                    f"{value!r}; open the dataset and version that the state was saved with"
                )
        self.restore(state)
        self.epoch = state["epoch"]
        self.consumed = self._resume_at = state["consumed"]

    def settings(self) -> dict[str, Any]:
        """What names the order, and travels in the state instead of having to agree with it."""
        return {
            "order": ALGORITHM,
            "shuffle": self.shuffle,
            "seed": self.seed,
            "block_rows": self._block_rows,
            "window": self.window,
        }

    def restore(self, settings: dict[str, Any]) -> None:
        """Take over from a state what names the order.

        Raises:
            DataError: when it was saved under another algorithm.
        """
        self._orders.clear()
        if settings["order"] != ALGORITHM:
            raise DataError(
                f"this state was saved with order algorithm {settings['order']}, this blixt has {ALGORITHM}; "
                "finish the epoch with the version that saved it, or start the epoch anew"
            )
        self.shuffle, self.seed, self.window = settings["shuffle"], settings["seed"], settings["window"]
        self._block_rows = settings["block_rows"]

    def __getstate__(self) -> dict[str, Any]:
        """Travel to another process with this one's rank: a worker has no environment of its own."""
        return {**self.__dict__, "_rank": self.rank, "_world_size": self.world_size, "_orders": {}}
