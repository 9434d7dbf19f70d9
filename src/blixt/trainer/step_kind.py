"""What a kind of step offers the training loop."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch

StepOutput = torch.Tensor | Mapping[str, Any] | None
"""What `training_step` may return: the loss, a dict that holds it under "loss", or None to skip the batch."""
NoSync = Callable[[], AbstractContextManager[Any]]
"""Makes a context in which backward keeps gradients to this process."""
RunBatch = Callable[[tuple[Any, ...], bool], Any]
"""Runs one batch, given to `training_step` as these arguments; True says that the window of batches ends with
it. Returns what the hooks after the batch see."""


class Step(Protocol):
    """Runs `training_step` and, at the end of a window of batches, the optimizer."""

    def let_go(self) -> torch.Tensor | None:
        """The loss of the newest batch, where one is known; from now on it is not kept here."""
        ...

    def forget(self) -> None:
        """Keep no loss, nor the graph behind it; also after an error."""
        ...

    def begin_epoch(self) -> RunBatch:
        """Read what may change between epochs; returns what to call for each batch of this one."""
        ...

    def flush(self) -> bool:
        """Step with what a window that ended early has gathered; whether there was anything."""
        ...


def nothing() -> None:
    """What is called where nothing happens."""


def no_context() -> AbstractContextManager[Any]:
    """Where nothing is kept back."""
    return nullcontext()
