"""Change how many batches make an optimizer step, by epoch."""

from typing import TYPE_CHECKING

from blixt.fabric import ConfigError
from blixt.trainer.callback import Callback
from blixt.trainer.hooks import overridden
from blixt.trainer.module import Module

if TYPE_CHECKING:
    from blixt.trainer.trainer import Trainer


class GradientAccumulationScheduler(Callback):
    """Sets `accumulate_grad_batches` at the beginning of epochs.

    Args:
        scheduling: From which epoch (counted from 0) how many batches are accumulated; epochs before the
            first one named accumulate nothing.

    Example:
        >>> scheduler = GradientAccumulationScheduler({4: 2})
        >>> [scheduler.get_accumulate_grad_batches(epoch) for epoch in (0, 4, 9)]
        [1, 2, 2]
    """

    def __init__(self, scheduling: dict[int, int]) -> None:
        if not scheduling:
            raise ConfigError(
                "GradientAccumulationScheduler(scheduling)", scheduling, "it is empty", "Use {0: 4}"
            )
        for epoch, batches in scheduling.items():
            whole = isinstance(epoch, int) and isinstance(batches, int)  # pyright: ignore[reportUnnecessaryIsInstance]
            if not whole or epoch < 0 or batches < 1:
                reason = f"{epoch!r}: {batches!r} is not an epoch (from 0) and a number of batches (from 1)"
                raise ConfigError(
                    "GradientAccumulationScheduler(scheduling)", scheduling, reason, "Use e.g. {0: 8, 4: 1}"
                )
        self.scheduling = {0: 1, **scheduling}
        self.epochs = sorted(self.scheduling)

    def going_to_accumulate_grad_batches(self) -> bool:
        """Whether any epoch accumulates at all."""
        return any(batches > 1 for batches in self.scheduling.values())

    def get_accumulate_grad_batches(self, epoch: int) -> int:
        """How many batches make a step in this epoch."""
        return self.scheduling[max(begin for begin in self.epochs if begin <= epoch)]

    def on_train_start(self, trainer: "Trainer", module: Module) -> None:
        """Refuse what cannot work together."""
        if not module.automatic_optimization:
            reason = "with automatic_optimization = False the optimizer is yours"
            raise ConfigError(
                "Trainer(callbacks)", "GradientAccumulationScheduler", reason, "Accumulate in training_step"
            )
        if overridden(module, "optimizer_zero_grad", Module):
            trainer.print("Note: your optimizer_zero_grad is called once a window of accumulated batches.")
        given = trainer.accumulate_grad_batches
        if given != 1 and given not in self.scheduling.values():
            reason = "GradientAccumulationScheduler sets it as well"
            raise ConfigError("Trainer(accumulate_grad_batches)", given, reason, "Leave one of the two out")

    def on_train_epoch_start(self, trainer: "Trainer", module: Module) -> None:
        """Set it for this epoch."""
        trainer.accumulate_grad_batches = self.get_accumulate_grad_batches(trainer.current_epoch)
