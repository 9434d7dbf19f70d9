"""Batches without torch: one thread reads ahead of the consumer, or none."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from blixt.data.order import Int
from blixt.data.rows import Rows
from blixt.data.steps import End, Steps

_RUN_POSITIONS = 4096
_END = object()


class Loader:
    """Iterate over a dataset in batches, each read in one gather.

    Every iteration is one epoch of this rank's batches; the next iteration reads the next epoch. `state_dict`
    is
    exact in the middle of an epoch, whatever was read ahead, and loads under another world or batch size.

    Args:
        dataset: a `Dataset` or a `TokenDataset`.
        batch_size: items per batch and rank.
        end: what happens to a last batch that is not full: "drop_last", "pad" or "even" (see
            `blixt.data.steps`).
        prefetch: batches read ahead by a thread; 0 reads in the caller's thread.
        transform: applied to each batch, in the reading thread.
    """

    def __init__(
        self,
        dataset: Rows[Any],
        batch_size: int,
        *,
        end: End = "drop_last",
        prefetch: int = 2,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.end: End = end
        self.prefetch = prefetch
        self.transform = transform
        self._steps(0)

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        return len(self._steps(0))

    def __iter__(self) -> Iterator[Any]:
        steps = self._steps(self.dataset.begin())
        batches = self._batches(steps) if self.prefetch == 0 else _ahead(self._batches(steps), self.prefetch)
        for step, batch in enumerate(batches):
            self.dataset.advance(steps.consumed_after(step))
            yield batch
        self.dataset.finish()

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration reads."""
        self.dataset.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return where the epoch stands, counting the batches that were handed out."""
        return self.dataset.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.dataset.load_state_dict(state)

    def _steps(self, consumed: int) -> Steps:
        dataset = self.dataset
        return Steps(len(dataset), self.batch_size, dataset.world_size, dataset.rank, consumed, self.end)

    def _batches(self, steps: Steps) -> Iterator[Any]:
        for rows in rows_of_steps(self.dataset, steps):
            batch = self.dataset.gather(rows)
            yield batch if self.transform is None else self.transform(batch)


def rows_of_steps(dataset: Rows[Any], steps: Steps) -> Iterator[Int]:
    """Yield the rows of each step; the order is asked for many positions at once, where it is cheap."""
    order = dataset.order
    run = max(1, _RUN_POSITIONS // steps.batch_size)
    for first in range(0, len(steps), run):
        parts = [steps.positions(step) for step in range(first, min(first + run, len(steps)))]
        rows = order.at(np.concatenate(parts))
        yield from np.split(rows, np.cumsum([len(part) for part in parts])[:-1])


def _ahead(batches: Iterator[Any], count: int) -> Iterator[Any]:
    """Run the iterator in a thread that stays at most `count` items ahead and ends with this generator."""
    ready: queue.SimpleQueue[Any] = queue.SimpleQueue()
    room = threading.Semaphore(count)
    stopped = threading.Event()

    def read() -> None:
        try:
            while room.acquire() and not stopped.is_set():
                ready.put(next(batches, _END))
        except BaseException as problem:  # handed to the consumer, who raises it
            ready.put(_Failure(problem))

    thread = threading.Thread(target=read, name="blixt-data-ahead", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _END:
            if isinstance(item, _Failure):
                raise item.problem
            room.release()
            yield item
    finally:
        stopped.set()
        room.release()
        thread.join()


class _Failure:
    def __init__(self, problem: BaseException) -> None:
        self.problem = problem
