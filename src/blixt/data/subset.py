"""Parts of a dataset, chosen by row number: still a dataset, with an order and a state of its own."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from blixt.data.order import Int
from blixt.data.permute import permute
from blixt.data.rows import Allocate, Rows, T
from blixt.data.schema import Structure
from blixt.data.shard.layout import crc32c


class Subset(Rows[T]):
    """Some rows of a dataset, by their stored number; `subset(dataset, ...)` and `split` make it.

    Shuffle, seed, window and ranks are the dataset's.
    """

    def __init__(self, source: Rows[T], chosen: range | Int) -> None:
        self.source = source
        self._chosen = chosen
        numbers = np.array([chosen.start, chosen.stop, chosen.step]) if isinstance(chosen, range) else chosen
        super().__init__(
            rows=len(chosen),
            row_bytes=source.row_bytes,
            identity={
                **source.identity,
                "subset": [
                    *source.identity.get("subset", ()),
                    len(chosen),
                    crc32c(np.ascontiguousarray(numbers, "<i8").data),
                ],
            },
            shuffle=source.shuffle,
            seed=source.seed,
            window=source.window,
            rank=source.ranks_given[0],
            world_size=source.ranks_given[1],
        )

    @property
    def structure(self) -> Structure | None:
        """The tree of a sample of the dataset."""
        return self.source.structure

    def gather(self, rows: Int, allocate: Allocate = np.empty) -> Any:
        """Return the rows as one batch of the dataset they are from."""
        return self.source.gather(self._in_source(rows), allocate)

    def views(self, rows: Int, allocate: Allocate = np.empty) -> Any:
        """Return what `gather` does, with memoryviews in place of bytes."""
        return self.source.views(self._in_source(rows), allocate)

    def item(self, row: int) -> T:
        """Return one row."""
        return self.source.item(int(self._chosen[row]))

    def items(self, rows: Int) -> list[T]:
        """Return the rows one by one."""
        return self.source.items(self._in_source(rows))

    def plan_ahead(self, rows: Int) -> None:
        """Tell the dataset which of its rows will be read soon."""
        self.source.plan_ahead(self._in_source(rows))

    def in_source(self, row: int) -> int:
        """Return the number that a row has in the dataset it is from."""
        return int(self._chosen[row])

    def _in_source(self, rows: Int) -> Int:
        if isinstance(self._chosen, range):
            return self._chosen.start + rows * self._chosen.step
        return self._chosen[rows]


def subset(dataset: Rows[T], rows: slice | range | Sequence[int] | npt.NDArray[np.integer]) -> Subset[T]:
    """Return the dataset's rows of these stored numbers, as a dataset.

    Args:
        dataset: any dataset.
        rows: a slice (nothing is stored), or numbers, negative ones counted from the end; in the order in
        which
            the subset shall have them without shuffle.

    Raises:
        IndexError: when a number is out of range.

    Example:
        `subset(dataset, slice(0, 1000))`, `subset(dataset, np.flatnonzero(labels == 3))`
    """
    count = len(dataset)
    if isinstance(rows, slice):
        return Subset(dataset, range(*rows.indices(count)))
    numbers = np.asarray(rows, np.int64)
    wrong = numbers[(numbers < -count) | (numbers >= count)]
    if len(wrong):
        raise IndexError(f"row {wrong[0]} is out of range: the dataset has {count} rows")
    return Subset(dataset, np.where(numbers < 0, numbers + count, numbers))


def split(
    dataset: Rows[T], parts: Sequence[float], *, seed: int = 0, shuffle: bool = True
) -> list[Subset[T]]:
    """Cut a dataset into parts that share no row.

    Args:
        dataset: any dataset.
        parts: the share of each part; together at most 1.
        seed: which rows go where, with `shuffle`.
        shuffle: choose each part's rows at random, which keeps 8 bytes per row in memory; else parts are
        runs of
            neighbours.

    Raises:
        ValueError: when the shares are not positive or make more than 1.

    Example:
        `train, val = split(dataset, [0.9, 0.1])`
    """
    if not parts or min(parts) <= 0 or sum(parts) > 1 + 1e-9:
        raise ValueError(f"parts must be positive shares that make at most 1, got {list(parts)}")
    ends = [min(round(float(end) * len(dataset)), len(dataset)) for end in np.cumsum(parts)]
    bounds = list(zip([0, *ends[:-1]], ends, strict=True))
    if not shuffle:
        return [Subset(dataset, range(low, high)) for low, high in bounds]
    return [
        Subset(dataset, np.sort(permute(np.arange(low, high), len(dataset), seed))) for low, high in bounds
    ]
