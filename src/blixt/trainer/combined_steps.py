"""Steps that draw their batches themselves: `training_step(self, dataloader_iter)`."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from blixt.trainer.combined_batches import AheadBatches, Around, State
from blixt.trainer.combined_modes import Triplet


def takes_iterator(step: Callable[..., Any]) -> bool:
    """Whether a step asks for the iterator, by calling an argument `dataloader_iter`.

    Example:
        >>> takes_iterator(lambda dataloader_iter: None), takes_iterator(lambda batch: None)
        (True, False)
    """
    return "dataloader_iter" in inspect.signature(inspect.unwrap(step)).parameters


def until_drawn_up(step: Callable[..., Any]) -> Callable[..., Any]:
    """A step that draws where nothing is left counts as one that skips its batch."""

    def run(*args: Any) -> Any:
        try:
            return step(*args)
        except StopIteration:
            return None

    return run


class StepIterator(Iterator[Triplet]):
    """What such a step gets: draws `(batch, batch_idx, dataloader_idx)`, each batch where its loader left it.

    Attributes:
        length: Batches of an epoch, if that is known.
        batch: The one drawn last.
        batch_idx: Its index.
        dataloader_idx: Its loader.
    """

    def __init__(self, batches: AheadBatches, length: int | None) -> None:
        self.length = length
        self.batch: Any = None
        self.batch_idx = batches.delivered - 1
        self.dataloader_idx = 0
        self._batches = batches
        self._iterator = iter(batches)
        self._over = False

    @property
    def newest(self) -> tuple[Any, int]:
        """The batch drawn last (before the first, None) and its index: what hooks around the step see."""
        return self.batch, max(self.batch_idx, 0)

    @property
    def fetched(self) -> int:
        """Batches drawn in this epoch."""
        return self._batches.delivered

    @property
    def done(self) -> bool:
        """Whether there is no further batch."""
        return self._over or (self.batch is not None and self._batches.last)

    def __next__(self) -> Triplet:
        try:
            self.batch = next(self._iterator)
        except StopIteration:
            self._over = True
            raise
        self.batch_idx = self._batches.delivered - 1
        self.dataloader_idx = self._batches.loader_index
        return self.batch, self.batch_idx, self.dataloader_idx


class DrawnBatches(Around):
    """Gives the step the iterator, again and again, until everything is drawn.

    Args:
        batches: What is drawn from.
        length: Batches of an epoch, if that is known.
    """

    def __init__(self, batches: AheadBatches, length: int | None) -> None:
        self.batches = self._ahead = batches
        self.iterator: StepIterator | None = None
        self._length = length

    @property
    def delivered(self) -> int:
        """Batches drawn in this epoch."""
        return self.batches.delivered

    @property
    def last(self) -> bool:
        """Whether everything is drawn; known after the step."""
        return self.iterator is not None and self.iterator.done

    def __iter__(self) -> Iterator[StepIterator]:
        iterator = self.iterator = StepIterator(self._ahead, self._length)
        while not iterator.done:
            yield iterator

    def end_epoch(self) -> None:
        """Say that the epoch is over, so that the position is the beginning of the next."""
        self.batches.end_epoch()

    def state_dict(self) -> State:
        """The position after the batches drawn so far."""
        return self.batches.state_dict()

    def load_state_dict(self, state_dict: State) -> None:
        """Make the next iteration begin at that position."""
        self.batches.load_state_dict(state_dict)
