"""Steps that draw their batches themselves: `training_step(self, dataloader_iter)`."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from blixt.trainer.combined_modes import Triplet


class _Source(Protocol):
    @property
    def batches(self) -> Any: ...

    @property
    def total(self) -> int | None: ...


def takes_iterator(step: Callable[..., Any]) -> bool:
    """Whether a step asks for the iterator, by calling its first argument `dataloader_iter`.

    Example:
        >>> takes_iterator(lambda dataloader_iter: None), takes_iterator(lambda batch: None)
        (True, False)
    """
    return "dataloader_iter" in inspect.signature(step).parameters


class StepIterator(Iterator[Triplet]):
    """What such a step gets: draws `(batch, batch_idx, dataloader_idx)`, each batch where its loader left it.

    Args:
        source: The stage's loader.
        loader_index: Which of several loaders it is.
        start: Batches of this epoch that were drawn before a resume.

    Attributes:
        fetched: Batches drawn in this epoch.
        batch: The one drawn last.
        batch_idx: Its index.
        dataloader_idx: Its loader.
    """

    def __init__(self, source: _Source, loader_index: int = 0, start: int = 0) -> None:
        self.fetched = start
        self.batch: Any = None
        self.batch_idx = start - 1
        self.dataloader_idx = loader_index
        self._over = source.total is not None and start >= source.total
        self._source = source
        self._iterator = iter(source.batches)

    @property
    def length(self) -> int | None:
        """Batches of an epoch, if that is known."""
        return self._source.total

    @property
    def done(self) -> bool:
        """Whether there is no further batch, as far as one knows."""
        return self._over or getattr(self._source.batches, "last", False)

    def __next__(self) -> Triplet:
        if self.done:
            raise StopIteration
        try:
            self.batch = next(self._iterator)
        except StopIteration:
            self._over = True
            raise
        self.batch_idx = self.fetched
        self.fetched += 1
        self._over = self.length is not None and self.fetched >= self.length
        self.dataloader_idx = getattr(self._source.batches, "loader_index", self.dataloader_idx)
        return self.batch, self.batch_idx, self.dataloader_idx
