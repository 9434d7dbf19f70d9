"""Several datasets read side by side: row t of each makes one sample, with a random state of its own."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from blixt.data.loader.collate import collate
from blixt.data.mix.mix import EpochOf, rows_of_rounds
from blixt.data.order import Int, Order
from blixt.data.permute import mix_numbers
from blixt.data.rows import Allocate, RowOrder, Rows

Join = Callable[[tuple[Any, ...], "np.random.Generator"], Any]
_ENDLESS = 1 << 40


class Zip(Rows[Any]):
    """Samples that are tuples: one row of each dataset.

    Row t of the epoch takes row t of each dataset's own order; one that is shorter goes round again in a
    new order. Everything is arithmetic on t, so a zip seeks in O(1) and is the same on any number of ranks
    and workers, random transforms included: `transform` gets a generator made from (seed, epoch, t) alone.

    Args:
        datasets: `Dataset`, `TokenDataset`, `Subset`, mixes or other zips.
        length: rows in an epoch: "shortest" or "longest" dataset, a number, or `math.inf` for an epoch of
        2**40. transform: `(samples, rng) -> sample`; the tuple itself when None. shuffle: visit the rows in
        a random order, on top of each dataset's own. Datasets that belong together row by row
            (an image and its mask) are opened with `shuffle=False` and zipped with True.
        seed: names that order and the generators.
        window: blocks that are shuffled together.
        rank: this process's rank; from torch.distributed or the environment when None.
        world_size: the number of ranks; likewise.

    Raises:
        ValueError: when there is no dataset, or one has no rows, or the length is not positive.

    Example:
        `Zip([images, masks], transform=lambda pair, rng: flip(*pair, rng.random() < 0.5), shuffle=True)`
    """

    def __init__(
        self,
        datasets: Sequence[Rows[Any]],
        *,
        length: float | str = "shortest",
        transform: Join | None = None,
        shuffle: bool = False,
        seed: int = 0,
        window: int = 16,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        self.datasets = list(datasets)
        self.transform = transform
        sizes = [len(dataset) for dataset in self.datasets]
        count = _length(sizes, length)
        self._rounds = [-(-count // size) for size in sizes]
        super().__init__(
            rows=count,
            row_bytes=sum(dataset.row_bytes for dataset in self.datasets),
            identity={"zip": [dataset.identity for dataset in self.datasets], "length": count},
            shuffle=shuffle,
            seed=seed,
            window=window,
            rank=rank,
            world_size=world_size,
        )

    def gather(self, rows: Int, allocate: Allocate = np.empty) -> Any:
        """Return the rows as one batch: a tuple of batches, or what `transform` made, collated."""
        if self.transform is not None:
            return collate(self.items(rows), allocate)
        return tuple(
            dataset.gather(local, allocate)
            for dataset, local in zip(self.datasets, self._local(rows), strict=True)
        )

    def item(self, row: int) -> Any:
        """Return one row; a row number is `epoch * len(zip) + t`."""
        return self.items(np.array([row]))[0]

    def items(self, rows: Int) -> list[Any]:
        """Return the rows one by one."""
        columns = [
            dataset.items(local) for dataset, local in zip(self.datasets, self._local(rows), strict=True)
        ]
        samples = list(zip(*columns, strict=True))
        if self.transform is None:
            return samples
        return [
            self.transform(sample, self.generator(*divmod(row, len(self))))
            for row, sample in zip(rows.tolist(), samples, strict=True)
        ]

    def generator(self, epoch: int, row: int) -> "np.random.Generator":
        """Return the random generator that row t of an epoch has, on every machine."""
        return np.random.Generator(np.random.Philox(key=mix_numbers(self.seed, epoch, row)))

    def plan_ahead(self, rows: Int) -> None:
        """Tell each dataset which of its rows will be read soon."""
        for dataset, local in zip(self.datasets, self._local(rows), strict=True):
            dataset.plan_ahead(local)

    def _local(self, rows: Int) -> list[Int]:
        """Return each dataset's own rows."""
        epochs, positions = np.divmod(rows, len(self))
        local = [np.empty(len(rows), np.int64) for _ in self.datasets]
        for epoch in sorted(set(epochs.tolist())):
            here = np.flatnonzero(epochs == epoch)
            for dataset, rounds, out in zip(self.datasets, self._rounds, local, strict=True):
                out[here] = rows_of_rounds(dataset, epoch * rounds, positions[here])
        return local

    def rows_at(self, epoch: int, positions: Int) -> Int:
        """Return the row numbers at positions of an epoch."""
        order = Order(len(self), self._block_rows, self.seed, epoch, self.shuffle, self.window)
        return epoch * len(self) + order.at(positions)

    def _make_order(self, epoch: int) -> RowOrder:
        return EpochOf(self, epoch)

    @property
    def is_ordered(self) -> bool:
        """Always: a row number names its epoch."""
        return True

    def settings(self) -> dict[str, Any]:
        """What names the order, and those of the datasets."""
        return {**super().settings(), "datasets": [dataset.settings() for dataset in self.datasets]}

    def restore(self, settings: dict[str, Any]) -> None:
        """Take over the orders from a state."""
        super().restore(settings)
        for dataset, each in zip(self.datasets, settings["datasets"], strict=True):
            dataset.restore(each)


def _length(sizes: list[int], length: float | str) -> int:
    if not sizes or 0 in sizes:
        raise ValueError("a zip needs datasets that have rows")
    if isinstance(length, str):
        if length not in ("shortest", "longest"):
            raise ValueError(f"length must be 'shortest', 'longest' or a number, got {length!r}")
        return min(sizes) if length == "shortest" else max(sizes)
    if length < 1:
        raise ValueError(f"length must be at least 1, got {length}")
    return _ENDLESS if math.isinf(length) else int(length)
