"""What others may ask a trainer: read-only views of its parts."""

from pathlib import Path
from typing import Literal

import torch
from torch.optim import Optimizer

from blixt.fabric import FabricError, Logger
from blixt.trainer.callback import Callback
from blixt.trainer.callbacks.checkpoint import ModelCheckpoint
from blixt.trainer.callbacks.early_stopping import EarlyStopping
from blixt.trainer.callbacks.progress_bar import ProgressBar
from blixt.trainer.config import TrainerConfig
from blixt.trainer.datamodule import DataModule
from blixt.trainer.device_views import DeviceViews
from blixt.trainer.evaluate import Evaluation, Kind
from blixt.trainer.loaders import StageLoader
from blixt.trainer.logbook import Logbook
from blixt.trainer.module import Module
from blixt.trainer.optimizers import SchedulerConfig
from blixt.trainer.progress import Counters

Stage = Literal["fit", "validate", "test", "predict"]


class TrainerViews(DeviceViews):
    """The parts of a trainer, declared once, and what follows from them.

    Attributes:
        config: Every argument that is not about devices.
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
    _evaluations: dict[Kind, Evaluation]

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
    def min_epochs(self) -> int:
        """Epochs that run whatever wants to stop."""
        return self.config.min_epochs

    @property
    def min_steps(self) -> int:
        """Optimizer steps that are made whatever wants to stop."""
        return self.config.min_steps

    @property
    def num_training_batches(self) -> int | float:
        """Batches in an epoch; infinite when nobody knows."""
        total = self._train.total if self._train is not None else None
        return float("inf") if total is None else total

    @property
    def num_val_batches(self) -> list[int | float]:
        """Batches of each validation loader; infinite where nobody knows."""
        return self._batches_of("validation")

    @property
    def num_test_batches(self) -> list[int | float]:
        """Batches of each test loader; infinite where nobody knows."""
        return self._batches_of("test")

    @property
    def num_predict_batches(self) -> list[int | float]:
        """Batches of each predict loader; infinite where nobody knows."""
        return self._batches_of("predict")

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
        """Whether the running batch is known to be the epoch's last; stays so until the next epoch."""
        delivered = self._train.batches.delivered if self._train is not None else 0
        return self.counters.epoch_done or delivered >= self.num_training_batches

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
        """Whether a fit runs, outside of its validations."""
        return self.stage == "fit" and not self.evaluating

    @property
    def validating(self) -> bool:
        """Whether a validation runs, within a fit or on its own; the sanity check is none."""
        running = self._evaluates("validation") and not self.sanity_checking
        return self.stage == "validate" or running

    @property
    def testing(self) -> bool:
        """Whether a test runs."""
        return self.stage == "test"

    @property
    def predicting(self) -> bool:
        """Whether a prediction runs."""
        return self.stage == "predict"

    @property
    def evaluating(self) -> bool:
        """Whether a validation, a sanity check or a test runs."""
        return self.sanity_checking or self.validating or self.testing

    @property
    def enable_validation(self) -> bool:
        """Whether this fit has validation batches."""
        return self.validates

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
        return next(iter(self.early_stopping_callbacks), None)

    @property
    def early_stopping_callbacks(self) -> list[EarlyStopping]:
        """All of them."""
        return [callback for callback in self.callbacks if isinstance(callback, EarlyStopping)]

    @property
    def progress_bar_callback(self) -> ProgressBar | None:
        """The first."""
        return next((c for c in self.callbacks if isinstance(c, ProgressBar)), None)

    def _evaluates(self, kind: Kind) -> bool:
        evaluation = self._evaluations.get(kind)
        return evaluation is not None and evaluation.running

    def _batches_of(self, kind: Kind) -> list[int | float]:
        evaluation = self._evaluations.get(kind)
        totals = [loader.total for loader in evaluation.loaders] if evaluation is not None else []
        return [float("inf") if total is None else total for total in totals]
