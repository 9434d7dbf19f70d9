"""What a Trainer brings along when it is not told otherwise."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from blixt.fabric import BlixtLogger, ConfigError, CSVLogger, Fabric, Logger, TensorBoardLogger
from blixt.fabric.loggers.experiment import from_environment
from blixt.trainer.callback import Callback
from blixt.trainer.callbacks.checkpoint import ModelCheckpoint
from blixt.trainer.callbacks.early_stopping import EarlyStopping
from blixt.trainer.callbacks.progress_bar import ProgressBar
from blixt.trainer.config import TrainerConfig


def make_loggers(given: Any, root: Path, fabric: Fabric, quiet: bool) -> list[Logger]:
    """The loggers of a run; the one of a blixt Job is added unless loggers are switched off."""
    if quiet or given is False:
        return []
    if given is None or given is True:
        kind = TensorBoardLogger if find_spec("tensorboard") is not None else CSVLogger
        loggers: list[Logger] = [kind(root, "logs")]
    else:
        loggers = list(cast("list[Logger]", given)) if isinstance(given, (list, tuple)) else [given]
    for logger in loggers:
        if not isinstance(logger, Logger):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError("Trainer(logger)", logger, "it is not a Logger", "Give one, True or False")
    if fabric.is_global_zero and not any(isinstance(logger, BlixtLogger) for logger in loggers):
        own = from_environment()
        loggers += [own] if own is not None else []
    return loggers


def make_callbacks(given: Any, checkpointing: bool, bar: bool, config: TrainerConfig) -> list[Callback]:
    """The callbacks of a run, with the usual ones added."""
    callbacks: list[Callback] = []
    if given is not None:
        callbacks = list(cast("list[Callback]", given)) if isinstance(given, (list, tuple)) else [given]
    for callback in callbacks:
        if not isinstance(callback, Callback):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(
                "Trainer(callbacks)", callback, "it is not a Callback", "Derive it from Callback"
            )
    has_checkpoint = any(isinstance(callback, ModelCheckpoint) for callback in callbacks)
    if has_checkpoint and not checkpointing:
        reason = "a ModelCheckpoint is among the callbacks"
        raise ConfigError("Trainer(enable_checkpointing)", False, reason, "Leave one of the two out")
    if config.fast_dev_run:
        callbacks = [c for c in callbacks if not isinstance(c, (ModelCheckpoint, EarlyStopping))]
    elif checkpointing and not has_checkpoint:
        callbacks.append(ModelCheckpoint())
    if bar and not any(isinstance(callback, ProgressBar) for callback in callbacks):
        callbacks.append(ProgressBar())
    return sorted(callbacks, key=lambda callback: isinstance(callback, ModelCheckpoint))
