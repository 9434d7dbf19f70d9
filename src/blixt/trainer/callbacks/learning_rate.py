"""Log how fast each optimizer learns."""

from typing import TYPE_CHECKING, Any, Literal

from blixt.trainer.callback import Callback

if TYPE_CHECKING:
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer


class LearningRateMonitor(Callback):
    """Sends `lr-<optimizer>` to the loggers, with a suffix for each of several parameter groups.

    Args:
        logging_interval: "step" (whenever a row is written), "epoch", or None for both.
        log_momentum: Also send the momentum.
    """

    def __init__(
        self, logging_interval: Literal["step", "epoch"] | None = None, log_momentum: bool = False
    ) -> None:
        self.logging_interval = logging_interval
        self.log_momentum = log_momentum

    def on_train_batch_end(
        self, trainer: "Trainer", module: "Module", outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log at the steps at which the trainer logs."""
        if self.logging_interval != "epoch" and trainer.logs_this_step:
            trainer.add_to_row(self._rates(trainer))

    def on_train_epoch_start(self, trainer: "Trainer", module: "Module") -> None:
        """Log at the beginning of the epoch."""
        if self.logging_interval == "epoch":
            trainer.add_to_row(self._rates(trainer))

    def _rates(self, trainer: "Trainer") -> dict[str, float]:
        rates: dict[str, float] = {}
        names = {id(c.scheduler.optimizer): c.name for c in trainer.lr_scheduler_configs if c.name}
        for number, optimizer in enumerate(trainer.optimizers):
            plain = f"lr-{type(optimizer).__name__.removeprefix('Scaled')}"
            name = names.get(id(optimizer)) or (f"{plain}-{number}" if number else plain)
            groups = optimizer.param_groups
            for index, group in enumerate(groups):
                full = f"{name}/pg{index + 1}" if len(groups) > 1 else name
                rates[full] = float(group["lr"])
                if self.log_momentum:
                    rates[f"{full}-momentum"] = float(group.get("momentum", group.get("betas", (0,))[0]))
        return rates
