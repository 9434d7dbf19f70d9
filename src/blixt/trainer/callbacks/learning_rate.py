"""Log how fast each optimizer learns."""

import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.optim import Optimizer

from blixt.fabric import ConfigError
from blixt.trainer.callback import Callback

if TYPE_CHECKING:
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer


class LearningRateMonitor(Callback):
    """Sends `lr-<optimizer>` to the loggers, with a suffix for each of several parameter groups.

    A scheduler's `name` in `configure_optimizers` replaces `lr-<optimizer>`, a parameter group's "name" its
    number.

    Args:
        logging_interval: "step" (whenever a row is written), "epoch", or None for both.
        log_momentum: Also send momentum, or the first beta.
        log_weight_decay: Also send weight decay.

    Attributes:
        lrs: All values of each name so far.
    """

    def __init__(
        self,
        logging_interval: Literal["step", "epoch"] | None = None,
        log_momentum: bool = False,
        log_weight_decay: bool = False,
    ) -> None:
        if logging_interval not in (None, "step", "epoch"):
            raise ConfigError(
                "LearningRateMonitor(logging_interval)",
                logging_interval,
                "it is unknown",
                "Use 'step' or 'epoch'",
            )
        self.logging_interval = logging_interval
        self.log_momentum = log_momentum
        self.log_weight_decay = log_weight_decay
        self.lrs: dict[str, list[float]] = {}
        self.last_momentum_values: dict[str, float] = {}
        self.last_weight_decay_values: dict[str, float] = {}
        self._taken = -1

    def on_train_start(self, trainer: "Trainer", module: "Module") -> None:
        """Begin the lists anew.

        Raises:
            ConfigError: When there is no logger to send anything to.
        """
        if not trainer.loggers:
            raise ConfigError(
                "Trainer(logger)", False, "LearningRateMonitor has nowhere to send its values", "Add a logger"
            )
        self._taken = -1
        self.lrs = {name: [] for _, names in self._named(trainer, None) for name in names}
        if self.log_momentum and not any(_has_momentum(optimizer) for optimizer in trainer.optimizers):
            warnings.warn(
                "No optimizer has momentum: LearningRateMonitor sends 0.", RuntimeWarning, stacklevel=2
            )

    def on_train_batch_start(self, trainer: "Trainer", module: "Module", batch: Any, batch_idx: int) -> None:
        """Take the values with which the coming step learns, if its row will be written."""
        every, step = trainer.config.log_every_n_steps, trainer.counters.optimizer_steps
        if self.logging_interval != "epoch" and every and (step + 1) % every == 0 and step != self._taken:
            self._taken = step
            self._send(trainer, "step" if self.logging_interval is None else None)

    def on_train_epoch_start(self, trainer: "Trainer", module: "Module") -> None:
        """Take the values at the beginning of the epoch."""
        if self.logging_interval != "step":
            self._send(trainer, "epoch" if self.logging_interval is None else None)

    def _send(self, trainer: "Trainer", interval: str | None) -> None:
        row: dict[str, float] = {}
        for optimizer, names in self._named(trainer, interval):
            for group, name in zip(optimizer.param_groups, names, strict=True):
                row[name] = float(group["lr"])
                self._list_of(name).append(row[name])
                if self.log_momentum:
                    momentum = group["betas"][0] if "betas" in group else group.get("momentum", 0.0)
                    row[f"{name}-momentum"] = self.last_momentum_values[f"{name}-momentum"] = float(momentum)
                if self.log_weight_decay:
                    decay = float(group.get("weight_decay", 0.0))
                    row[f"{name}-weight_decay"] = self.last_weight_decay_values[f"{name}-weight_decay"] = (
                        decay
                    )
        trainer.logbook.callback_metrics.update({name: torch.tensor(value) for name, value in row.items()})
        # A row of its own: these are the rates before the step, its metrics come after it.
        trainer.write_row(row, trainer.counters.optimizer_steps, epoch=False)

    def _list_of(self, name: str) -> list[float]:
        """The values of `name`; an optimizer that gets a second parameter group renames its first."""
        before = name.removesuffix("/pg1")
        if before != name and before in self.lrs:
            self.lrs[name] = self.lrs.pop(before)
        return self.lrs.setdefault(name, [])

    def _named(self, trainer: "Trainer", interval: str | None) -> list[tuple[Optimizer, list[str]]]:
        """Each optimizer with the names of its groups; `interval` leaves out other schedulers' optimizers."""
        seen: list[Any] = []
        kinds: Counter[str] = Counter()
        found: list[tuple[Optimizer, list[str]]] = []
        for config in trainer.lr_scheduler_configs:
            optimizer = config.scheduler.optimizer
            seen.append(_inner(optimizer))
            names = _group_names(optimizer, _name(optimizer, config.name, kinds))
            if interval in (None, config.interval):
                found.append((optimizer, names))
        free = [o for o in trainer.optimizers if not any(_inner(o) is other for other in seen)]
        return found + [(o, _group_names(o, _name(o, None, kinds))) for o in free]


def _inner(optimizer: Any) -> Any:
    """The user's optimizer below the trainer's wrapper, if there is one."""
    return getattr(optimizer, "optimizer", optimizer)


def _name(optimizer: Optimizer, given: str | None, kinds: "Counter[str]") -> str:
    if given is not None:
        return given
    kind = type(_inner(optimizer)).__name__.removeprefix("Scaled")
    number, kinds[kind] = kinds[kind], kinds[kind] + 1
    return f"lr-{kind}-{number}" if number else f"lr-{kind}"


def _group_names(optimizer: Optimizer, name: str) -> list[str]:
    groups = optimizer.param_groups
    if len(groups) == 1:
        own = groups[0].get("name")
        return [f"{name}/{own}" if own else name]
    names = [f"{name}/{group.get('name', f'pg{number}')}" for number, group in enumerate(groups, start=1)]
    for twice in (full for full, count in Counter(names).items() if count > 1):
        reason = "two parameter groups of one optimizer have it"
        raise ConfigError("param_groups(name)", twice.rpartition("/")[2], reason, "Name each differently")
    return names


def _has_momentum(optimizer: Optimizer) -> bool:
    return "momentum" in optimizer.defaults or "betas" in optimizer.defaults
