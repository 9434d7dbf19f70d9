"""What others may ask a trainer: views of its parts."""

import math
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.optim import Optimizer

from blixt.fabric import FabricError, Logger
from blixt.trainer.callback import Callback
from blixt.trainer.callbacks.base import Checkpoint
from blixt.trainer.callbacks.early_stopping import EarlyStopping
from blixt.trainer.callbacks.progress_bar import ProgressBar
from blixt.trainer.config_views import ConfigViews
from blixt.trainer.datamodule import DataModule
from blixt.trainer.device_views import DeviceViews
from blixt.trainer.evaluate import Evaluation, Kind
from blixt.trainer.fit import Run
from blixt.trainer.hooks import HookPlan
from blixt.trainer.loaders import StageLoader, as_given
from blixt.trainer.logbook import Logbook
from blixt.trainer.module import Module
from blixt.trainer.optimizer_handle import TrainerOptimizer
from blixt.trainer.optimizers import SchedulerConfig
from blixt.trainer.profilers import PassThroughProfiler, Profiler
from blixt.trainer.progress import Counters
from blixt.trainer.state import RunningStage
from blixt.trainer.state_views import StateViews

_INFINITE = float("inf")


class TrainerViews(DeviceViews, ConfigViews, StateViews):
    """The parts of a trainer, declared once, and what follows from them.

    Attributes:
        callbacks: In the order in which they run.
        counters: How far the run has come.
        logbook: What `log` writes on.
        lr_scheduler_configs: Of the running fit.
        optimizer_handles: What `Module.optimizers()` gives, one an optimizer.
        should_stop: Set it to end the fit after the running batch.
        received_sigterm: Whether SIGTERM asked for the end.
        datamodule: Where loaders come from, if it was given.
        default_root_dir: Where logs and checkpoints go; may be a URL.
        ckpt_path: The checkpoint that the last call went on from, or looked at.
        keeps_indices: Whether predictions remember which samples they are of.
    """

    callbacks: list[Callback]
    counters: Counters
    logbook: Logbook
    lr_scheduler_configs: list[SchedulerConfig]
    optimizer_handles: list[TrainerOptimizer]
    should_stop: bool
    received_sigterm: bool
    datamodule: DataModule | None
    default_root_dir: str
    ckpt_path: str | None
    _profiler: Profiler | None
    keeps_indices: bool
    _loggers: list[Logger]
    _module: Module | None
    _model: nn.Module | None
    _hooks: HookPlan | None
    _train: StageLoader | None
    _run: Run | None
    _evaluations: dict[Kind, Evaluation]
    _validates: bool
    _left_epoch: bool
    _given: dict[str, Any]
    _found: dict[Kind, Any]
    _may_make_train: bool

    # --- what runs --------------------------------------------------------------------------------

    @property
    def lightning_module(self) -> Module:
        """The module that runs, or ran last."""
        if self._module is None:
            raise FabricError("The trainer has no module yet. Give one to fit, validate, test or predict.")
        return self._module

    @property
    def model(self) -> nn.Module | None:
        """What the strategy made of the module; the module itself in most of them."""
        return self._model if self._model is not None else self._module

    @model.setter
    def model(self, model: nn.Module | None) -> None:
        self._model = model

    @property
    def optimizers(self) -> list[Optimizer]:
        """Of the running fit."""
        return [handle.optimizer for handle in self.optimizer_handles]

    @optimizers.setter
    def optimizers(self, optimizers: list[Optimizer]) -> None:
        self.optimizer_handles = [
            optimizer
            if isinstance(optimizer, TrainerOptimizer)
            else TrainerOptimizer(optimizer, self.fabric, self._module)
            for optimizer in optimizers
        ]

    @property
    def profiler(self) -> Profiler:
        """What measures; one that does nothing when none was asked for."""
        return PassThroughProfiler() if self._profiler is None else self._profiler

    @profiler.setter
    def profiler(self, profiler: Profiler | None) -> None:
        self._profiler = None if isinstance(profiler, PassThroughProfiler) else profiler

    @property
    def has_profiler(self) -> bool:
        """Whether anything is measured."""
        return self._profiler is not None

    # --- how far ----------------------------------------------------------------------------------

    @property
    def current_epoch(self) -> int:
        """The running epoch; after a fit, the number of epochs that have run."""
        return self.counters.epoch + self._left_epoch

    @property
    def global_step(self) -> int:
        """Optimizer steps so far; with several optimizers each of them counts."""
        return self.counters.global_step

    @property
    def logger_step(self) -> int:
        """The step under which a row would reach the loggers now."""
        lag = self._run.lag if self._run is not None else 0
        return self.counters.optimizer_steps - lag

    @property
    def batch_index(self) -> int:
        """The running batch of this epoch; -1 before the first."""
        return self._run.index if self._run is not None else self.counters.batch - 1

    @property
    def batches_before_epoch(self) -> int:
        """Batches of the epochs before the one of `batch_index`."""
        counters = self.counters
        left = self._run is not None and self._run.over and counters.batch == 0
        return counters.batches - (self.batch_index + 1 if left else counters.batch)

    @property
    def logs_this_step(self) -> bool:
        """Whether a row is written after the batch that runs now."""
        return self.counters.logs

    @property
    def is_last_batch(self) -> bool:
        """Whether the running batch is known to be the epoch's last; stays so until the next epoch."""
        run = self._run
        if run is None or run.index < 0:
            return False
        if run.loader.ahead:
            return run.over or bool(cast("Any", run.loader.batches).last)
        return run.over or run.index + 1 == run.loader.total

    @property
    def num_training_batches(self) -> int | float:
        """Batches in an epoch; infinite when nobody knows."""
        total = self._train.total if self._train is not None else None
        return _INFINITE if total is None else total

    @property
    def num_sanity_val_batches(self) -> list[int | float]:
        """Batches of each validation loader that run before training."""
        return [min(self.num_sanity_val_steps, batches) for batches in self.num_val_batches]

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
    def val_check_batch(self) -> int | float:
        """After how many batches validation comes; infinite for the end of an epoch of unknown length."""
        every = self._run.validate_every if self._run is not None else None
        return _INFINITE if every is None else every

    @property
    def estimated_stepping_batches(self) -> int | float:
        """Optimizer steps of the whole fit, for schedulers; infinite when nobody knows.

        In `configure_optimizers` this makes the training loader, which is otherwise made later.
        """
        if self._train is None and self._may_make_train and self.config.limit_train_batches:
            self._train = self._new_train_loader()
        config = self.config
        if config.max_epochs == -1:
            return _INFINITE if config.max_steps == -1 else config.max_steps
        batches = self.num_training_batches
        if batches == _INFINITE:
            return _INFINITE if config.max_steps == -1 else config.max_steps
        steps = math.ceil(batches / config.accumulate_grad_batches) * max(config.max_epochs, 1)
        return steps if config.max_steps == -1 else min(steps, config.max_steps)

    @property
    def validates(self) -> bool:
        """The same as `enable_validation`."""
        return self.enable_validation

    @property
    def enable_validation(self) -> bool:
        """Whether this fit has validation batches."""
        return self._validates and self.config.limit_val_batches > 0

    # --- loaders ----------------------------------------------------------------------------------

    @property
    def train_dataloader(self) -> Any:
        """The training loader or loaders of the running fit, as they were given."""
        return None if self._train is None else as_given(self._train.given)

    @property
    def val_dataloaders(self) -> Any:
        """The validation loaders, as they were given."""
        return self._given_to("validation")

    @property
    def test_dataloaders(self) -> Any:
        """The test loaders, as they were given."""
        return self._given_to("test")

    @property
    def predict_dataloaders(self) -> Any:
        """The predict loaders, as they were given."""
        return self._given_to("predict")

    # --- numbers ----------------------------------------------------------------------------------

    @property
    def callback_metrics(self) -> dict[str, torch.Tensor]:
        """The newest value of everything that was logged."""
        return self.logbook.callback_metrics

    @property
    def logged_metrics(self) -> dict[str, torch.Tensor]:
        """What the loggers got last."""
        return self.logbook.logged_metrics

    @property
    def progress_bar_metrics(self) -> dict[str, float]:
        """What the progress bar shows."""
        return self.logbook.peek()

    # --- loggers ----------------------------------------------------------------------------------

    @property
    def loggers(self) -> list[Logger]:
        """Where rows go."""
        return self._loggers

    @loggers.setter
    def loggers(self, loggers: list[Logger] | None) -> None:
        self._loggers = list(loggers) if loggers else []

    @property
    def logger(self) -> Logger | None:
        """The first logger."""
        return self._loggers[0] if self._loggers else None

    @logger.setter
    def logger(self, logger: Logger | None) -> None:
        self._loggers = [logger] if logger is not None else []

    @property
    def log_dir(self) -> str | None:
        """The folder of the first logger that has one, else `default_root_dir`; the same on all ranks."""
        found = next((logger.log_dir for logger in self._loggers if logger.log_dir), None)
        found = found or self.default_root_dir
        return self.fabric.broadcast(found) if self.fabric.world_size > 1 else found

    @property
    def checkpoint_dir(self) -> Path:
        """Where checkpoints go."""
        callback = self.checkpoint_callback
        given = getattr(callback, "dirpath", None)
        return Path(given) if given is not None else Path(self.log_dir or "") / "checkpoints"

    # --- callbacks --------------------------------------------------------------------------------

    @property
    def checkpoint_callbacks(self) -> list[Any]:
        """All that save checkpoints."""
        return [callback for callback in self.callbacks if isinstance(callback, Checkpoint)]

    @property
    def checkpoint_callback(self) -> Any:
        """The first that saves checkpoints, or None."""
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
    def progress_bar_callback(self) -> Any:
        """The first that shows progress, or None."""
        return next((c for c in self.callbacks if isinstance(c, ProgressBar)), None)

    # --- help for the loops' views ----------------------------------------------------------------

    def evaluation_of(self, kind: Kind) -> Evaluation | None:
        """The evaluation of this kind, once it has been prepared."""
        if kind == "validation" and self.state.stage is RunningStage.SANITY_CHECKING:
            return self._evaluations.get("validation")
        return self._evaluations.get(kind)

    def _new_train_loader(self) -> StageLoader:
        raise FabricError("Only a Trainer makes loaders.")

    def _given_to(self, kind: Kind) -> Any:
        return as_given(self._found.get(kind)) if kind in self._evaluations else None

    def _batches_of(self, kind: Kind) -> list[int | float]:
        evaluation = self._evaluations.get(kind)
        totals = [loader.total for loader in evaluation.loaders] if evaluation is not None else []
        return [_INFINITE if total is None else total for total in totals]
