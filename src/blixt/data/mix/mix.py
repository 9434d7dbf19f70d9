"""Several datasets read as one, in given shares."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from blixt.data.errors import DataError
from blixt.data.mix.merge import merge
from blixt.data.mix.plan import STOPS, Plan, Stop
from blixt.data.order import Int
from blixt.data.permute import mix_numbers
from blixt.data.rows import Allocate, RowOrder, Rows
from blixt.data.schema import Structure


class Mix(Rows[Any]):
    """Rows of several datasets, taking turns by weight; a dataset like any other.

    Which dataset row t comes from, and which of its rows that is, are arithmetic on t. So a mix seeks in
    O(1), resumes exactly on any number of ranks and workers, and gives the same global batches on all of
    them. Each dataset is read in its own order (its `shuffle`, `seed` and `window`); every further round
    and epoch is another order. The shares hold exactly over each period (at most 65,536 turns) and nearly
    everywhere.

    Args:
        datasets: `Dataset`, `TokenDataset`, `Subset`, `Zip` or other mixes.
        weights: the share of each, in any unit; by their sizes when None.
        temperature: flattens the shares: each becomes `share ** (1 / temperature)`.
        stop: when an epoch ends. "once": each row comes exactly once, a dataset that was read drops out;
        "first": where
            the first dataset has no more rows; "all": where the last one was read whole, while the others go
            round again in a new order.
        length: rows in an epoch; the datasets then go round as often as needed.
        group: rows that come from one dataset in a row; the batch size (of all ranks, or of one) gives
        batches of one
            dataset each.
        seed: names the sequence of turns.
        rank: this process's rank; from torch.distributed or the environment when None.
        world_size: the number of ranks; likewise.

    Raises:
        ValueError: when weights and datasets do not match, or an argument is out of range.

    Example:
        `Loader(Mix([code, text], weights=[0.3, 0.7], stop="all"), batch_size=64)`
    """

    def __init__(
        self,
        datasets: Sequence[Rows[Any]],
        *,
        weights: Sequence[float] | None = None,
        temperature: float = 1.0,
        stop: Stop = "once",
        length: int | None = None,
        group: int = 1,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        self.datasets: list[Rows[Any]] = list(datasets)
        sizes = [len(dataset) for dataset in self.datasets]
        self.weights = _shares(sizes, weights, temperature)
        _check(sizes, stop, length, group)
        self._plan = Plan(
            sizes, self.weights, stop=stop, length=length, group=group, key=mix_numbers(seed, 0x6D6978)
        )
        self._rounds = [self._plan.rounds(i) for i in range(len(sizes))]
        self._first_row: Int = np.cumsum([0, *sizes])
        super().__init__(
            rows=self._plan.total,
            row_bytes=sum(
                w * dataset.row_bytes for w, dataset in zip(self.weights, self.datasets, strict=True)
            ),
            identity={
                "mix": [dataset.identity for dataset in self.datasets],
                "weights": self.weights,
                "stop": stop,
                "length": length,
                "group": group,
                "mix_seed": seed,
            },
            shuffle=False,
            seed=seed,
            window=1,
            rank=rank,
            world_size=world_size,
        )

    def source(self, positions: Int | Sequence[int]) -> Int:
        """Return the number of the dataset from which each position of an epoch comes."""
        return self._plan.at(np.asarray(positions, np.int64))[0]

    def gather(self, rows: Int, allocate: Allocate = np.empty) -> Any:
        """Return the rows as one batch; the datasets must agree in the structure of their samples.

        Raises:
            DataError: when a batch mixes datasets that do not.
        """
        parts = self._parts(rows)
        if len(parts) == 1:
            number, local, _ = parts[0]
            return self.datasets[number].gather(local, allocate)
        batches = [self.datasets[number].gather(local) for number, local, _ in parts]
        structure = self.datasets[parts[0][0]].structure
        return merge(batches, [where for *_, where in parts], len(rows), allocate, structure)

    @property
    def structure(self) -> Structure | None:
        """The tree of a sample, that of the first dataset."""
        return self.datasets[0].structure

    def item(self, row: int) -> Any:
        """Return one row; rows of all datasets are numbered one dataset after the other."""
        number = int(np.searchsorted(self._first_row, row, "right")) - 1
        return self.datasets[number].item(row - int(self._first_row[number]))

    def items(self, rows: Int) -> list[Any]:
        """Return the rows one by one."""
        items: list[Any] = [None] * len(rows)
        for number, local, where in self._parts(rows):
            for place, item in zip(where.tolist(), self.datasets[number].items(local), strict=True):
                items[place] = item
        return items

    def plan_ahead(self, rows: Int) -> None:
        """Tell each dataset which of its rows will be read soon."""
        for number, local, _ in self._parts(rows):
            self.datasets[number].plan_ahead(local)

    def _parts(self, rows: Int) -> list[tuple[int, Int, Int]]:
        """Group rows by dataset: (its number, its rows, their places)."""
        owner = np.searchsorted(self._first_row, rows, "right") - 1
        return [
            (number, rows[where] - self._first_row[number], where)
            for number in sorted(set(owner.tolist()))
            for where in [np.flatnonzero(owner == number)]
        ]

    def rows_at(self, epoch: int, positions: Int) -> Int:
        """Return the rows at positions of an epoch, numbered one dataset after the other."""
        owner, number = self._plan.at(positions)
        rows = np.empty(len(positions), np.int64)
        for each, dataset in enumerate(self.datasets):
            here = np.flatnonzero(owner == each)
            rows[here] = self._first_row[each] + rows_of_rounds(
                dataset, epoch * self._rounds[each], number[here]
            )
        return rows

    def _make_order(self, epoch: int) -> RowOrder:
        return EpochOf(self, epoch)

    @property
    def is_ordered(self) -> bool:
        """Always: a position is not a row number."""
        return True

    def settings(self) -> dict[str, Any]:
        """What names the orders of the datasets."""
        return {"datasets": [dataset.settings() for dataset in self.datasets]}

    def restore(self, settings: dict[str, Any]) -> None:
        """Take over the datasets' orders from a state."""
        if len(settings["datasets"]) != len(self.datasets):
            raise DataError(
                f"this state is of {len(settings['datasets'])} datasets, the mix has {len(self.datasets)}"
            )
        for dataset, each in zip(self.datasets, settings["datasets"], strict=True):
            dataset.restore(each)


class EpochOf:
    """The order of one epoch of a mix or a zip."""

    def __init__(self, dataset: Any, epoch: int) -> None:
        self._dataset = dataset
        self._epoch = epoch

    def at(self, positions: Int, /) -> Int:
        """Return the rows at these positions."""
        return self._dataset.rows_at(self._epoch, positions)


def rows_of_rounds(dataset: Rows[Any], first_round: int, number: Int) -> Int:
    """Return the n-th rows of a dataset that goes round, each round in the order of another epoch."""
    rounds, position = np.divmod(number, len(dataset))
    rows = np.empty(len(number), np.int64)
    for each in sorted(set(rounds.tolist())):
        here = np.flatnonzero(rounds == each)
        rows[here] = dataset.order_of(first_round + each).at(position[here])
    return rows


def _shares(sizes: list[int], weights: Sequence[float] | None, temperature: float) -> list[float]:
    if not sizes:
        raise ValueError("a mix needs at least one dataset")
    if weights is not None and (len(weights) != len(sizes) or min(weights) <= 0):
        raise ValueError(
            f"weights must be {len(sizes)} positive numbers, one per dataset, got {list(weights)}"
        )
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    raw = [float(size) for size in sizes] if weights is None else [float(weight) for weight in weights]
    if temperature != 1:
        raw = [(share / sum(raw)) ** (1 / temperature) for share in raw]
    whole = sum(raw)
    return [share / whole for share in raw] if temperature != 1 else raw


def _check(sizes: list[int], stop: str, length: int | None, group: int) -> None:
    if stop not in STOPS:
        raise ValueError(f"stop must be one of {', '.join(STOPS)}, got {stop!r}")
    if group < 1 or (length is not None and length < 1):
        raise ValueError(f"group and length must be at least 1, got {group} and {length}")
    if 0 in sizes:
        raise ValueError(f"dataset {sizes.index(0)} of the mix has no rows; leave it out")
