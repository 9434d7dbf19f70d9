"""trainer is the loop you do not want to write, on top of fabric.

A `Module` says what a training step is; the `Trainer` runs epochs, validation, logging, checkpoints and
exact resume, on any device and number of processes; `Callback`s add to it without touching the loop. Names
and arguments are those that users of Lightning know.

The names load on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blixt.fabric import BlixtLogger, CSVLogger, Logger, TensorBoardLogger, seed_everything
    from blixt.trainer.callback import Callback
    from blixt.trainer.callbacks.checkpoint import ModelCheckpoint
    from blixt.trainer.callbacks.early_stopping import EarlyStopping
    from blixt.trainer.callbacks.learning_rate import LearningRateMonitor
    from blixt.trainer.callbacks.progress_bar import ProgressBar
    from blixt.trainer.callbacks.throughput import ThroughputMonitor
    from blixt.trainer.data_hooks import DataHooks
    from blixt.trainer.datamodule import DataModule
    from blixt.trainer.hparams import HParams, HyperparametersMixin
    from blixt.trainer.interval import Interval
    from blixt.trainer.loops import EvaluationLoop, FitLoop
    from blixt.trainer.module import Module
    from blixt.trainer.module_hooks import ModuleHooks
    from blixt.trainer.optimizer_handle import TrainerOptimizer
    from blixt.trainer.optimizers import SchedulerConfig
    from blixt.trainer.profilers import (
        AdvancedProfiler,
        PassThroughProfiler,
        Profiler,
        PyTorchProfiler,
        SimpleProfiler,
    )
    from blixt.trainer.state import RunningStage, TrainerFn, TrainerState, TrainerStatus
    from blixt.trainer.trainer import Trainer

_FILE_OF = {
    "TrainerStatus": "blixt.trainer.state",
    "TrainerState": "blixt.trainer.state",
    "TrainerOptimizer": "blixt.trainer.optimizer_handle",
    "TrainerFn": "blixt.trainer.state",
    "RunningStage": "blixt.trainer.state",
    "Interval": "blixt.trainer.interval",
    "FitLoop": "blixt.trainer.loops",
    "EvaluationLoop": "blixt.trainer.loops",
    "SimpleProfiler": "blixt.trainer.profilers",
    "PyTorchProfiler": "blixt.trainer.profilers",
    "Profiler": "blixt.trainer.profilers",
    "PassThroughProfiler": "blixt.trainer.profilers",
    "AdvancedProfiler": "blixt.trainer.profilers",
    "ModuleHooks": "blixt.trainer.module_hooks",
    "HyperparametersMixin": "blixt.trainer.hparams",
    "HParams": "blixt.trainer.hparams",
    "DataHooks": "blixt.trainer.data_hooks",
    "Callback": "blixt.trainer.callback",
    "ModelCheckpoint": "blixt.trainer.callbacks.checkpoint",
    "EarlyStopping": "blixt.trainer.callbacks.early_stopping",
    "LearningRateMonitor": "blixt.trainer.callbacks.learning_rate",
    "ProgressBar": "blixt.trainer.callbacks.progress_bar",
    "ThroughputMonitor": "blixt.trainer.callbacks.throughput",
    "DataModule": "blixt.trainer.datamodule",
    "Module": "blixt.trainer.module",
    "SchedulerConfig": "blixt.trainer.optimizers",
    "Trainer": "blixt.trainer.trainer",
    "Logger": "blixt.fabric",
    "BlixtLogger": "blixt.fabric",
    "CSVLogger": "blixt.fabric",
    "TensorBoardLogger": "blixt.fabric",
    "seed_everything": "blixt.fabric",
}

__all__ = [
    "AdvancedProfiler",
    "BlixtLogger",
    "CSVLogger",
    "Callback",
    "DataHooks",
    "DataModule",
    "EarlyStopping",
    "EvaluationLoop",
    "FitLoop",
    "HParams",
    "HyperparametersMixin",
    "Interval",
    "LearningRateMonitor",
    "Logger",
    "ModelCheckpoint",
    "Module",
    "ModuleHooks",
    "PassThroughProfiler",
    "Profiler",
    "ProgressBar",
    "PyTorchProfiler",
    "RunningStage",
    "SchedulerConfig",
    "SimpleProfiler",
    "TensorBoardLogger",
    "ThroughputMonitor",
    "Trainer",
    "TrainerFn",
    "TrainerOptimizer",
    "TrainerState",
    "TrainerStatus",
    "seed_everything",
]


def __getattr__(name: str) -> object:
    file = _FILE_OF.get(name)
    if file is None:
        raise AttributeError(f"module 'blixt.trainer' has no attribute {name!r}")
    value = getattr(import_module(file), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_FILE_OF])
