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
    from blixt.trainer.callbacks.base import Checkpoint
    from blixt.trainer.callbacks.batch_size_finder import BatchSizeFinder
    from blixt.trainer.callbacks.checkpoint import ModelCheckpoint
    from blixt.trainer.callbacks.device_stats import DeviceStatsMonitor
    from blixt.trainer.callbacks.early_stopping import EarlyStopping, EarlyStoppingReason
    from blixt.trainer.callbacks.finetuning import BackboneFinetuning, BaseFinetuning
    from blixt.trainer.callbacks.gradient_accumulation import GradientAccumulationScheduler
    from blixt.trainer.callbacks.lambda_callback import LambdaCallback
    from blixt.trainer.callbacks.learning_rate import LearningRateMonitor
    from blixt.trainer.callbacks.learning_rate_finder import LearningRateFinder
    from blixt.trainer.callbacks.model_summary import ModelSummary, RichModelSummary
    from blixt.trainer.callbacks.on_exception_checkpoint import OnExceptionCheckpoint
    from blixt.trainer.callbacks.prediction_writer import BasePredictionWriter, WriteInterval
    from blixt.trainer.callbacks.progress_bar import ProgressBar, get_standard_metrics
    from blixt.trainer.callbacks.pruning import ModelPruning
    from blixt.trainer.callbacks.rich_bar import RichProgressBar, RichProgressBarTheme
    from blixt.trainer.callbacks.spike_detection import SpikeDetection, TrainingSpikeException
    from blixt.trainer.callbacks.stochastic_weight_averaging import StochasticWeightAveraging
    from blixt.trainer.callbacks.text_bar import TQDMProgressBar
    from blixt.trainer.callbacks.throughput import ThroughputMonitor
    from blixt.trainer.callbacks.timer import Timer
    from blixt.trainer.callbacks.weight_averaging import EMAWeightAveraging, WeightAveraging
    from blixt.trainer.checkpoint import migrate_checkpoint
    from blixt.trainer.cli import (
        CLI,
        ArgumentParser,
        LRSchedulerCallable,
        OptimizerCallable,
        ReduceLROnPlateau,
        SaveConfigCallback,
        instantiate_class,
    )
    from blixt.trainer.combined import CombinedLoader
    from blixt.trainer.data_hooks import DataHooks
    from blixt.trainer.datamodule import DataModule
    from blixt.trainer.hparams import AttributeDict, HParams, HyperparametersMixin
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
    from blixt.trainer.summary import (
        LayerSummary,
        get_formatted_model_size,
        get_human_readable_count,
        parse_batch_shape,
        summarize,
    )
    from blixt.trainer.trainer import Trainer
    from blixt.trainer.tuner import Tuner
    from blixt.trainer.tuner_lr import LRFinder

_FILE_OF = {
    "AttributeDict": "blixt.trainer.hparams",
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
    "migrate_checkpoint": "blixt.trainer.checkpoint",
    "CombinedLoader": "blixt.trainer.combined",
    "DataModule": "blixt.trainer.datamodule",
    "Module": "blixt.trainer.module",
    "SchedulerConfig": "blixt.trainer.optimizers",
    "Trainer": "blixt.trainer.trainer",
    "Logger": "blixt.fabric",
    "BlixtLogger": "blixt.fabric",
    "CSVLogger": "blixt.fabric",
    "TensorBoardLogger": "blixt.fabric",
    "seed_everything": "blixt.fabric",
    "BackboneFinetuning": "blixt.trainer.callbacks.finetuning",
    "BaseFinetuning": "blixt.trainer.callbacks.finetuning",
    "BasePredictionWriter": "blixt.trainer.callbacks.prediction_writer",
    "BatchSizeFinder": "blixt.trainer.callbacks.batch_size_finder",
    "Checkpoint": "blixt.trainer.callbacks.base",
    "DeviceStatsMonitor": "blixt.trainer.callbacks.device_stats",
    "EMAWeightAveraging": "blixt.trainer.callbacks.weight_averaging",
    "EarlyStoppingReason": "blixt.trainer.callbacks.early_stopping",
    "GradientAccumulationScheduler": "blixt.trainer.callbacks.gradient_accumulation",
    "LRFinder": "blixt.trainer.tuner_lr",
    "LambdaCallback": "blixt.trainer.callbacks.lambda_callback",
    "LearningRateFinder": "blixt.trainer.callbacks.learning_rate_finder",
    "ModelPruning": "blixt.trainer.callbacks.pruning",
    "ModelSummary": "blixt.trainer.callbacks.model_summary",
    "OnExceptionCheckpoint": "blixt.trainer.callbacks.on_exception_checkpoint",
    "RichModelSummary": "blixt.trainer.callbacks.model_summary",
    "RichProgressBar": "blixt.trainer.callbacks.rich_bar",
    "RichProgressBarTheme": "blixt.trainer.callbacks.rich_bar",
    "SpikeDetection": "blixt.trainer.callbacks.spike_detection",
    "StochasticWeightAveraging": "blixt.trainer.callbacks.stochastic_weight_averaging",
    "TQDMProgressBar": "blixt.trainer.callbacks.text_bar",
    "Timer": "blixt.trainer.callbacks.timer",
    "TrainingSpikeException": "blixt.trainer.callbacks.spike_detection",
    "Tuner": "blixt.trainer.tuner",
    "WeightAveraging": "blixt.trainer.callbacks.weight_averaging",
    "WriteInterval": "blixt.trainer.callbacks.prediction_writer",
    "ArgumentParser": "blixt.trainer.cli",
    "CLI": "blixt.trainer.cli",
    "LRSchedulerCallable": "blixt.trainer.cli",
    "OptimizerCallable": "blixt.trainer.cli",
    "SaveConfigCallback": "blixt.trainer.cli",
    "instantiate_class": "blixt.trainer.cli",
    "LayerSummary": "blixt.trainer.summary",
    "ReduceLROnPlateau": "blixt.trainer.cli",
    "get_formatted_model_size": "blixt.trainer.summary",
    "get_human_readable_count": "blixt.trainer.summary",
    "get_standard_metrics": "blixt.trainer.callbacks.progress_bar",
    "parse_batch_shape": "blixt.trainer.summary",
    "summarize": "blixt.trainer.summary",
}

__all__ = [
    "CLI",
    "AdvancedProfiler",
    "ArgumentParser",
    "AttributeDict",
    "BackboneFinetuning",
    "BaseFinetuning",
    "BasePredictionWriter",
    "BatchSizeFinder",
    "BlixtLogger",
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "CombinedLoader",
    "DataHooks",
    "DataModule",
    "DeviceStatsMonitor",
    "EMAWeightAveraging",
    "EarlyStopping",
    "EarlyStoppingReason",
    "EvaluationLoop",
    "FitLoop",
    "GradientAccumulationScheduler",
    "HParams",
    "HyperparametersMixin",
    "Interval",
    "LRFinder",
    "LRSchedulerCallable",
    "LambdaCallback",
    "LayerSummary",
    "LearningRateFinder",
    "LearningRateMonitor",
    "Logger",
    "ModelCheckpoint",
    "ModelPruning",
    "ModelSummary",
    "Module",
    "ModuleHooks",
    "OnExceptionCheckpoint",
    "OptimizerCallable",
    "PassThroughProfiler",
    "Profiler",
    "ProgressBar",
    "PyTorchProfiler",
    "ReduceLROnPlateau",
    "RichModelSummary",
    "RichProgressBar",
    "RichProgressBarTheme",
    "RunningStage",
    "SaveConfigCallback",
    "SchedulerConfig",
    "SimpleProfiler",
    "SpikeDetection",
    "StochasticWeightAveraging",
    "TQDMProgressBar",
    "TensorBoardLogger",
    "ThroughputMonitor",
    "Timer",
    "Trainer",
    "TrainerFn",
    "TrainerOptimizer",
    "TrainerState",
    "TrainerStatus",
    "TrainingSpikeException",
    "Tuner",
    "WeightAveraging",
    "WriteInterval",
    "get_formatted_model_size",
    "get_human_readable_count",
    "get_standard_metrics",
    "instantiate_class",
    "migrate_checkpoint",
    "parse_batch_shape",
    "seed_everything",
    "summarize",
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
