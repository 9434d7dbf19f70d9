"""How far a fit has come, as numbers."""

from dataclasses import dataclass, field, fields
from typing import Any

import torch

from blixt.fabric import tensors


@dataclass
class Counters:
    """All a loop needs to go on from where another one stopped.

    Attributes:
        epoch: The running epoch.
        batch: Batches of this epoch that are done.
        batches: Batches of all epochs that are done.
        global_step: Calls of `optimizer.step`; with several optimizers each of them counts.
        optimizer_steps: Batches after which the weights moved, however many optimizers took part. Loggers
            use this as their step.
        samples: Samples this process has trained on: the rows of its batches.
        epoch_closed: The work of the epoch's end (schedulers, validation) has been done.
        epoch_done: The epoch is over; the next one begins.
        validations: Validation runs that are done.
        logs: A row is written after the batch that runs now.
        loaders_epoch: The epoch in which the training loader was made.
        validated_at: `batches` when validation ran last; -1 before the first.
        epoch_began_at: `global_step` when the running epoch began.
        validations_before: `validations` when the running epoch began.
    """

    epoch: int = 0
    batch: int = 0
    batches: int = 0
    global_step: int = 0
    optimizer_steps: int = 0
    samples: int = 0
    epoch_closed: bool = False
    epoch_done: bool = False
    validations: int = 0
    logs: bool = False
    loaders_epoch: int = 0
    validated_at: int = -1
    epoch_began_at: int = 0
    validations_before: int = 0
    _tokens: int = 0
    _tokens_pending: torch.Tensor | None = field(default=None, repr=False, compare=False)

    @property
    def tokens(self) -> int:
        """Tokens this process has trained on, as far as steps told; waits for the device."""
        if self._tokens_pending is not None:
            self._tokens += int(self._tokens_pending.item())
            self._tokens_pending = None
        return self._tokens

    @tokens.setter
    def tokens(self, count: int) -> None:
        self._tokens, self._tokens_pending = count, None

    def add_tokens(self, count: float | torch.Tensor) -> None:
        """Count what one step trained on; a number on the device stays there until somebody asks."""
        if isinstance(count, torch.Tensor):
            more = count.detach().sum()
            self._tokens_pending = more if self._tokens_pending is None else self._tokens_pending + more
        else:
            self._tokens += int(count)

    def next_epoch(self) -> None:
        """Go to the beginning of the next epoch."""
        self.epoch += 1
        self.batch = 0
        self.epoch_began_at, self.validations_before = self.global_step, self.validations
        self.epoch_closed = self.epoch_done = False

    def state_dict(self) -> dict[str, Any]:
        """As plain values."""
        names = (each.name for each in fields(self) if not each.name.startswith("_"))
        return {**{name: getattr(self, name) for name in names}, "tokens": self.tokens}

    def load(self, state: dict[str, Any]) -> None:
        """Take over the values of `state_dict`; names that are not known here are left alone."""
        known = {"tokens", *(each.name for each in fields(self))}
        for name, value in state.items():
            if name in known:
                setattr(self, name, value)


def rows_of(batch: Any) -> int:
    """How many samples a batch holds: the rows of its first tensor; 1 when there is none.

    Example:
        >>> rows_of((torch.zeros(4, 2), torch.zeros(4))), rows_of("text")
        (4, 1)
    """
    first = batch[0] if type(batch) in (list, tuple) and batch else batch
    if not isinstance(first, torch.Tensor):
        first = next(tensors(batch), None)
    shape = first.shape if first is not None else ()
    return shape[0] if shape else 1
