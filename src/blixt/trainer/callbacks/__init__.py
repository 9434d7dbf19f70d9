"""Callbacks that runs want: one file each, loaded on first use."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    from blixt.trainer.callbacks.progress_bar import ProgressBar
    from blixt.trainer.callbacks.pruning import ModelPruning
    from blixt.trainer.callbacks.rich_bar import RichProgressBar, RichProgressBarTheme
    from blixt.trainer.callbacks.spike_detection import SpikeDetection, TrainingSpikeException
    from blixt.trainer.callbacks.stochastic_weight_averaging import StochasticWeightAveraging
    from blixt.trainer.callbacks.text_bar import TQDMProgressBar
    from blixt.trainer.callbacks.throughput import ThroughputMonitor
    from blixt.trainer.callbacks.timer import Timer
    from blixt.trainer.callbacks.weight_averaging import EMAWeightAveraging, WeightAveraging

_FILE_OF = {
    "BackboneFinetuning": "finetuning",
    "BaseFinetuning": "finetuning",
    "BasePredictionWriter": "prediction_writer",
    "BatchSizeFinder": "batch_size_finder",
    "Checkpoint": "base",
    "DeviceStatsMonitor": "device_stats",
    "EMAWeightAveraging": "weight_averaging",
    "EarlyStopping": "early_stopping",
    "EarlyStoppingReason": "early_stopping",
    "GradientAccumulationScheduler": "gradient_accumulation",
    "LambdaCallback": "lambda_callback",
    "LearningRateFinder": "learning_rate_finder",
    "LearningRateMonitor": "learning_rate",
    "ModelCheckpoint": "checkpoint",
    "ModelPruning": "pruning",
    "ModelSummary": "model_summary",
    "OnExceptionCheckpoint": "on_exception_checkpoint",
    "ProgressBar": "progress_bar",
    "RichModelSummary": "model_summary",
    "RichProgressBar": "rich_bar",
    "RichProgressBarTheme": "rich_bar",
    "SpikeDetection": "spike_detection",
    "StochasticWeightAveraging": "stochastic_weight_averaging",
    "TQDMProgressBar": "text_bar",
    "ThroughputMonitor": "throughput",
    "Timer": "timer",
    "TrainingSpikeException": "spike_detection",
    "WeightAveraging": "weight_averaging",
    "WriteInterval": "prediction_writer",
}

__all__ = [
    "BackboneFinetuning",
    "BaseFinetuning",
    "BasePredictionWriter",
    "BatchSizeFinder",
    "Callback",
    "Checkpoint",
    "DeviceStatsMonitor",
    "EMAWeightAveraging",
    "EarlyStopping",
    "EarlyStoppingReason",
    "GradientAccumulationScheduler",
    "LambdaCallback",
    "LearningRateFinder",
    "LearningRateMonitor",
    "ModelCheckpoint",
    "ModelPruning",
    "ModelSummary",
    "OnExceptionCheckpoint",
    "ProgressBar",
    "RichModelSummary",
    "RichProgressBar",
    "RichProgressBarTheme",
    "SpikeDetection",
    "StochasticWeightAveraging",
    "TQDMProgressBar",
    "ThroughputMonitor",
    "Timer",
    "TrainingSpikeException",
    "WeightAveraging",
    "WriteInterval",
]


def __getattr__(name: str) -> object:
    if name == "Callback":
        from blixt.trainer.callback import Callback

        return Callback
    if name not in _FILE_OF:
        raise AttributeError(f"module 'blixt.trainer.callbacks' has no attribute {name!r}")
    value = getattr(import_module(f"blixt.trainer.callbacks.{_FILE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_FILE_OF])
