"""When learning-rate schedulers step."""

import inspect
import warnings
from typing import Any

from blixt.fabric import ConfigError
from blixt.trainer.hooks import overridden
from blixt.trainer.logbook import Logbook
from blixt.trainer.module import Module
from blixt.trainer.optimizers import SchedulerConfig


class Schedules:
    """The schedulers of a fit, sorted by when they step.

    Those that watch a metric step after the validation that may have logged it; all others before it, so
    that checkpoints which are saved there hold their new state. With manual optimisation none steps by
    itself.

    Args:
        configs: The schedulers.
        module: Whose `lr_scheduler_step` steps them.
        logbook: Where the watched metrics are.

    Raises:
        ConfigError: When a scheduler steps with arguments that only an own `lr_scheduler_step` could give.
    """

    def __init__(self, configs: list[SchedulerConfig], module: Module, logbook: Logbook) -> None:
        self._configs = configs if module.automatic_optimization else []
        self._module = module
        self._logbook = logbook
        self.any = bool(self._configs)
        if not overridden(module, "lr_scheduler_step", Module):
            for config in self._configs:
                _check_step(config)

    def after_batch(self, batch: int, epoch: int, stepped: bool, last: bool) -> None:
        """Step those that are due after a batch.

        Args:
            batch: Batches of the epoch that are done.
            epoch: Epochs that will be done with this one.
            stepped: Whether the optimizer moved.
            last: Whether this was the epoch's last batch.
        """
        if stepped:
            self._step("step", batch, False)
        if last:
            self._step("epoch", epoch, False)

    def skip(self, batch: int, epoch: int) -> None:
        """Step what belongs to the end of an epoch whose rest is skipped."""
        self.after_batch(batch, epoch, True, True)

    def watch(self, interval: str, count: int) -> None:
        """Step those that watch a metric."""
        self._step(interval, count, True)

    def _step(self, interval: str, count: int, watching: bool) -> None:
        for config in self._configs:
            if config.interval != interval or config.reduce_on_plateau is not watching:
                continue
            if count % config.frequency == 0:
                self._step_one(config)

    def _step_one(self, config: SchedulerConfig) -> None:
        metric: Any = None
        logbook = self._logbook
        if config.reduce_on_plateau:
            monitor = config.monitor or ""
            metric = logbook.newest().get(monitor)
            if metric is None:
                if config.strict:
                    raise logbook.missing("lr_scheduler(monitor)", monitor)
                message = f"No metric {monitor!r} was logged: its scheduler does not step."
                warnings.warn(message, RuntimeWarning, stacklevel=2)
                return
        outer, logbook.hook = logbook.hook, "lr_scheduler_step"
        self._module.lr_scheduler_step(config.scheduler, metric)
        logbook.hook = outer


def _check_step(config: SchedulerConfig) -> None:
    """Told when the epoch begins, as the first step is mostly at its end."""
    try:
        signature = inspect.signature(config.scheduler.step)
    except (TypeError, ValueError):  # some callables in C do not say
        return
    try:
        signature.bind(*(("metric",) if config.reduce_on_plateau else ()))
    except TypeError as error:
        asked = signature.replace(return_annotation=signature.empty)
        name, reason = type(config.scheduler).__name__, f"its step{asked} asks for more than it gets here"
        fix = "Write lr_scheduler_step in the module, and call it there"
        raise ConfigError("lr_scheduler(scheduler)", name, reason, fix) from error
