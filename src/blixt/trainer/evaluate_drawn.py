"""Evaluation steps that draw their batches themselves: `validation_step(self, dataloader_iter)`."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from blixt.trainer.combined_modes import Triplet
from blixt.trainer.loaders import StageLoader


def limited(loader: StageLoader, max_batches: int | None) -> int | None:
    """How many batches of a loader count, None when nobody knows; `max_batches` of -1 is no limit."""
    if max_batches is None or max_batches < 0:
        return loader.total
    return max_batches if loader.total is None else min(loader.total, max_batches)


class DrawnEvaluation(Iterator[Triplet]):
    """What such a step gets: draws `(batch, batch_idx, dataloader_idx)` of one loader after the other.

    One batch is fetched ahead, so that nobody is asked to draw where nothing is left.

    Args:
        loaders: Run one after the other.
        epoch: For loaders that want to know.
        max_batches: Of each loader; None or -1 for as many as configured.
        watched: Iterates over a loader's batches.
        tell: Called with each batch that is drawn, and the index of its loader.

    Attributes:
        batch: The one drawn last.
        batch_idx: Its index in its loader.
        dataloader_idx: Its loader.
        count: Batches drawn so far.
        done: Whether there is no further batch.
    """

    def __init__(
        self,
        loaders: Sequence[StageLoader],
        epoch: int,
        max_batches: int | None,
        watched: Callable[[Iterable[Any]], Iterable[Any]],
        tell: Callable[[Any, int], None],
    ) -> None:
        self.batch: Any = None
        self.batch_idx = self.dataloader_idx = self.count = 0
        self.done = False
        self._tell = tell
        self._items = _items(loaders, epoch, max_batches, watched)
        self._fetch()

    def _fetch(self) -> None:
        try:
            self._next = next(self._items)
        except StopIteration:
            self.done = True

    def __next__(self) -> Triplet:
        if self.done:
            raise StopIteration
        self.batch, self.batch_idx, self.dataloader_idx = drawn = self._next
        self.count += 1
        self._tell(self.batch, self.dataloader_idx)
        self._fetch()
        return drawn


def _items(
    loaders: Sequence[StageLoader],
    epoch: int,
    max_batches: int | None,
    watched: Callable[[Iterable[Any]], Iterable[Any]],
) -> Iterator[Triplet]:
    for index, loader in enumerate(loaders):
        total = limited(loader, max_batches)
        if total == 0:
            continue
        loader.batches.set_epoch(epoch)
        for position, batch in enumerate(watched(loader.batches)):
            yield batch, position, index
            if position + 1 == total:
                break
        loader.batches.end_epoch()
