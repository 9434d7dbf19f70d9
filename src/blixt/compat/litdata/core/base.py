"""What LitData's three kinds of streaming datasets share: this rank's and worker's part, epochs, states."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from blixt.data import Rows

_LOOKUP = 1024


class StreamingBase(IterableDataset[Any]):
    """An iterable dataset over rows of ours.

    Each worker of a DataLoader makes every `num_workers`-th batch whole, so batches are the same with any
    number of workers. Epochs are counted from 1.
    """

    def __init__(self, rows: Rows[Any], drop_last: bool | None) -> None:
        super().__init__()
        self.rows = rows
        self.drop_last = rows.world_size > 1 if drop_last is None else drop_last
        self.batch_size = 1
        self.num_workers = 1
        # epoch, where to begin, how often that was set: shared with workers that outlive an epoch
        self._begin: Any = torch.tensor([1, 0, 0]).share_memory_()
        self._seen = 0

    @property
    def current_epoch(self) -> int:
        """The epoch that the next iteration reads."""
        return int(self._begin[0])

    @current_epoch.setter
    def current_epoch(self, epoch: int) -> None:
        self.set_epoch(epoch)

    def set_epoch(self, current_epoch: int) -> None:
        """Choose the epoch that the next iteration reads; a loaded position stays in its own epoch."""
        if current_epoch != int(self._begin[0]):
            self._set(current_epoch, 0)

    def set_batch_size(self, batch_size: Any) -> None:
        """Hear how many samples make a batch; the loader says it."""
        self.batch_size = batch_size

    def set_num_workers(self, num_workers: int) -> None:
        """Hear how many workers read; the loader says it."""
        self.num_workers = num_workers or 1

    def set_shuffle(self, shuffle: bool) -> None:
        """Choose whether epochs are shuffled."""
        self.rows.shuffle = shuffle
        self.rows.load_state_dict(self.rows.state_dict())  # forgets orders made before

    def set_drop_last(self, drop_last: bool) -> None:
        """Choose whether all ranks get the same number of samples."""
        self.drop_last = drop_last

    def get_len(self, num_workers: int, batch_size: int) -> int | None:
        """Return how many samples this rank gets in an epoch."""
        self.set_num_workers(num_workers)
        self.set_batch_size(batch_size)
        return self.part.count(0, self.part.usable)

    def __len__(self) -> int:
        count = self.get_len(self.num_workers, self.batch_size)
        if count is None:
            raise TypeError("this dataset has no length")
        return count

    @property
    def part(self) -> "Part":
        """This rank's part of an epoch, as the loader reads it."""
        rows = self.rows
        return Part(len(rows), self.batch_size, rows.world_size, rows.rank, self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        return Samples(self)

    def served(self, rows: np.ndarray[Any, Any]) -> list[Any]:
        """Return rows as samples."""
        return self.rows.items(rows)

    def state_at(self, begin: int, samples: int) -> dict[str, Any]:
        """Return the state after so many samples of this rank since a position."""
        self.rows.epoch = self.current_epoch
        return {**self.rows.state_dict(), "consumed": self.part.consumed_after(begin, samples)}

    def state_dict(
        self, num_samples_yielded: Any = 0, num_workers: int = 0, batch_size: int = 1
    ) -> dict[str, Any]:
        """Return where the epoch stands after so many samples of this rank."""
        del num_workers, batch_size  # nothing here depends on them
        yielded = int(np.sum(num_samples_yielded)) if num_samples_yielded is not None else 0
        return self.state_at(self.begins_at, yielded)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state, in its epoch and order, with any number of ranks and workers."""
        self.rows.load_state_dict(state_dict)
        self._set(state_dict["epoch"], state_dict["consumed"])

    def reset_state_dict(self) -> None:
        """Forget the position that was loaded."""
        self._set(self.current_epoch, 0)

    @property
    def begins_at(self) -> int:
        """The position that was loaded, else 0."""
        return int(self._begin[1])

    def begin(self) -> tuple[int, int]:
        """Start an iteration: return its epoch and position; one that was loaded counts once."""
        epoch, position, times = self._begin.tolist()
        position, self._seen = (position if times != self._seen else 0), times
        return epoch, position

    def _set(self, epoch: int, position: int) -> None:
        self._begin.copy_(torch.tensor([epoch, position, int(self._begin[2]) + 1]))


class Part:
    """Which positions of an epoch this rank reads: global batches, of which each rank takes its slice."""

    def __init__(self, total: int, batch_size: int, world_size: int, rank: int, drop_last: bool) -> None:
        self.usable = total // world_size * world_size if drop_last else total
        self._batch, self._world, self._rank = batch_size, world_size, rank

    def steps(self, begin: int) -> int:
        """Return how many batches are left from a position on."""
        return -(-max(self.usable - begin, 0) // (self._batch * self._world))

    def positions(self, begin: int, step: int) -> tuple[int, int]:
        """Return positions `[first, end)` of this rank's part of a batch; ranks share a short one evenly."""
        start = begin + step * self._batch * self._world
        size = min(self._batch * self._world, self.usable - start)
        return start + self._rank * size // self._world, start + (self._rank + 1) * size // self._world

    def count(self, begin: int, end: int) -> int:
        """Return how many samples this rank gets between two positions."""
        whole, left = divmod(max(end - begin, 0), self._batch * self._world)
        last = (self._rank + 1) * left // self._world - self._rank * left // self._world
        return whole * self._batch + last

    def consumed_after(self, begin: int, samples: int) -> int:
        """Return where all ranks together are when this one has had so many samples."""
        whole, left = divmod(samples, self._batch)
        position = begin + whole * self._batch * self._world + left * self._world
        return min(position, self.usable) if samples < self.count(begin, self.usable) else self.usable


class Samples(Iterator[Any]):
    """One pass over this rank's and this worker's samples."""

    def __init__(self, dataset: StreamingBase) -> None:
        worker = get_worker_info()
        self._worker, self._workers = (worker.id, worker.num_workers) if worker else (0, 1)
        self._dataset = dataset
        epoch, begin = dataset.begin()
        dataset.rows.epoch = epoch
        self._count = dataset.part.count(begin, dataset.part.usable)
        self._left = self._run(epoch, begin)

    def __len__(self) -> int:
        return self._count

    def __next__(self) -> Any:
        return next(self._left)

    def _run(self, epoch: int, begin: int) -> Iterator[Any]:
        dataset, part = self._dataset, self._dataset.part
        order = dataset.rows.order_of(epoch)
        batch = dataset.batch_size
        steps = range(self._worker, part.steps(begin), self._workers)
        stride = max(1, _LOOKUP // batch)
        for first in range(0, len(steps), stride):
            spans = [part.positions(begin, step) for step in steps[first : first + stride]]
            rows = order.at(np.concatenate([np.arange(*span) for span in spans]))
            dataset.rows.plan_ahead(rows)
            for low in range(0, len(rows), 64):
                yield from dataset.served(rows[low : low + 64])
