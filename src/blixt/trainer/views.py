"""What others may ask a trainer: read-only views of its parts."""

from pathlib import Path
from typing import Any, Literal

import torch
from torch.optim import Optimizer

from blixt.fabric import Fabric, FabricError, Logger
from blixt.trainer.callback import Callback
from blixt.trainer.callbacks.checkpoint import ModelCheckpoint
from blixt.trainer.callbacks.early_stopping import EarlyStopping
from blixt.trainer.config import TrainerConfig
from blixt.trainer.datamodule import DataModule
from blixt.trainer.loaders import StageLoader
from blixt.trainer.logbook import Logbook
from blixt.trainer.module import Module
from blixt.trainer.optimizers import SchedulerConfig
from blixt.trainer.progress import Counters

Stage = Literal["fit", "validate", "test", "predict"]


class TrainerViews:
    """The parts of a trainer, declared once, and what follows from them.

    Attributes:
        config: Every argument that is not about devices.
        fabric: Devices and processes.
        loggers: Where rows go.
        callbacks: In the order in which they run.
        counters: How far the run has come.
        logbook: What `log` writes on.
        optimizers: Of the running fit.
        lr_scheduler_configs: Of the running fit.
        should_stop: Set it to end the fit after the running batch.
        interrupted: Whether a signal ended the fit.
        sanity_checking: Whether the validation before training runs.
        validates: Whether this fit has validation batches.
        stage: What runs now, if anything.
        datamodule: Where loaders come from, if it was given.
        default_root_dir: Where logs and checkpoints go.
    """

    config: TrainerConfig
    fabric: Fabric
    loggers: list[Logger]
    callbacks: list[Callback]
    counters: Counters
    logbook: Logbook
    optimizers: list[Optimizer]
    lr_scheduler_configs: list[SchedulerConfig]
    should_stop: bool
    interrupted: bool
    sanity_checking: bool
    validates: bool
    stage: Stage | None
    datamodule: DataModule | None
    default_root_dir: Path
    _module: Module | None
    _train: StageLoader | None

    def print(self, *args: Any, **kwargs: Any) -> None:
        """`print` on rank 0."""
        self.fabric.print(*args, **kwargs)

    @property
    def lightning_module(self) -> Module:
        """The module that runs, or ran last."""
        if self._module is None:
            raise FabricError("The trainer has no module yet. Give one to fit, validate, test or predict.")
        return self._module

    @property
    def model(self) -> Module:
        """The same as `lightning_module`."""
        return self.lightning_module

    @property
    def current_epoch(self) -> int:
        """The running epoch; after a fit, the number of epochs that are done."""
        return self.counters.epoch

    @property
    def global_step(self) -> int:
        """Optimizer steps so far."""
        return self.counters.global_step

    @property
    def logs_this_step(self) -> bool:
        """Whether a row is written after the batch that runs now."""
        return self.counters.logs

    @property
    def max_epochs(self) -> int:
        """-1 for no limit."""
        return self.config.max_epochs

    @property
    def max_steps(self) -> int:
        """-1 for no limit."""
        return self.config.max_steps

    @property
    def num_training_batches(self) -> int | float:
        """Batches in an epoch; infinite when nobody knows."""
        total = self._train.total if self._train is not None else None
        return float("inf") if total is None else total

    @property
    def estimated_stepping_batches(self) -> int | float:
        """Optimizer steps of the whole fit, for schedulers; infinite when nobody knows."""
        if self._train is None and self.stage == "fit":
            raise FabricError("The number of batches is known from on_train_start on. Use max_steps before.")
        config = self.config
        per_epoch = self.num_training_batches / config.accumulate_grad_batches
        total = float("inf") if config.max_epochs == -1 else -(-per_epoch // 1) * config.max_epochs
        steps = total if config.max_steps == -1 else min(total, config.max_steps)
        return steps if steps == float("inf") else int(steps)

    @property
    def is_last_batch(self) -> bool:
        """Whether the running batch is known to be the epoch's last."""
        return self.counters.batch + 1 >= self.num_training_batches

    @property
    def callback_metrics(self) -> dict[str, torch.Tensor]:
        """The newest value of everything that was logged."""
        return self.logbook.newest()

    @property
    def logged_metrics(self) -> dict[str, float]:
        """What the loggers got last."""
        return dict(self.logbook.logged_metrics)

    @property
    def progress_bar_metrics(self) -> dict[str, float]:
        """What the progress bar shows."""
        return self.logbook.peek()

    @property
    def training(self) -> bool:
        """Whether a fit runs."""
        return self.stage == "fit" and not self.sanity_checking

    @property
    def logger(self) -> Logger | None:
        """The first logger."""
        return self.loggers[0] if self.loggers else None

    @property
    def log_dir(self) -> str | None:
        """The folder of the first logger that has one."""
        return next((logger.log_dir for logger in self.loggers if logger.log_dir), None)

    @property
    def checkpoint_dir(self) -> Path:
        """Where checkpoints go."""
        callback = self.checkpoint_callback
        if callback is not None and callback.dirpath is not None:
            return Path(callback.dirpath)
        return Path(self.log_dir or self.default_root_dir) / "checkpoints"

    @property
    def checkpoint_callbacks(self) -> list[ModelCheckpoint]:
        """All of them."""
        return [callback for callback in self.callbacks if isinstance(callback, ModelCheckpoint)]

    @property
    def checkpoint_callback(self) -> ModelCheckpoint | None:
        """The first."""
        return next(iter(self.checkpoint_callbacks), None)

    @property
    def early_stopping_callback(self) -> EarlyStopping | None:
        """The first."""
        return next((c for c in self.callbacks if isinstance(c, EarlyStopping)), None)

    @property
    def global_rank(self) -> int:
        """The index of this process among all."""
        return self.fabric.global_rank

    @property
    def local_rank(self) -> int:
        """The index of this process on its machine."""
        return self.fabric.local_rank

    @property
    def world_size(self) -> int:
        """How many processes train together."""
        return self.fabric.world_size

    @property
    def is_global_zero(self) -> bool:
        """Whether this process writes files and talks to people."""
        return self.fabric.is_global_zero
