"""What a Trainer brings along when it is not told otherwise."""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from blixt.fabric import BlixtLogger, ConfigError, CSVLogger, DummyLogger, Fabric, Logger, TensorBoardLogger
from blixt.fabric.loggers.experiment import from_environment
from blixt.trainer.callback import Callback
from blixt.trainer.callbacks.base import Checkpoint
from blixt.trainer.callbacks.checkpoint import ModelCheckpoint
from blixt.trainer.callbacks.progress_bar import ProgressBar
from blixt.trainer.callbacks.timer import Timer


def make_loggers(given: Any, root: str, fabric: Fabric, quiet: bool, name: str) -> list[Logger]:
    """The loggers of a run; the one of a blixt Job is added unless loggers are switched off.

    Args:
        given: The argument `logger`.
        root: Where the default logger writes.
        fabric: The processes.
        quiet: Let one that keeps nothing take their place, so that whoever asks for a logger finds one.
        name: The folder of the default logger.
    """
    if given is False:
        return []
    if quiet:
        return [DummyLogger()]
    if given is None or given is True:
        kind = TensorBoardLogger if find_spec("tensorboard") is not None else CSVLogger
        loggers: list[Logger] = [kind(Path(root), name)]
    else:
        loggers = _listed(given)
    for logger in loggers:
        if not isinstance(logger, Logger):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError("Trainer(logger)", logger, "it is not a Logger", "Give one, True or False")
    if fabric.is_global_zero and not any(isinstance(logger, BlixtLogger) for logger in loggers):
        own = from_environment()
        loggers += [own] if own is not None else []
    return loggers


def make_callbacks(
    given: Any, *, checkpointing: bool, bar: bool, summary: bool, max_time: Any
) -> list[Callback]:
    """The callbacks of a run, with the usual ones added.

    Args:
        given: None, a callback, or several.
        checkpointing: Add a `ModelCheckpoint` unless there is a checkpoint callback.
        bar: Add a progress bar unless there is one.
        summary: Add a `ModelSummary` unless there is one.
        max_time: Add a `Timer` for it.

    Raises:
        ConfigError: When something else is among them, or two arguments contradict each other.
    """
    callbacks: list[Callback] = [] if given is None else _listed(given)
    for callback in callbacks:
        if not isinstance(callback, Callback):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(
                "Trainer(callbacks)", callback, "it is not a Callback", "Derive it from Callback"
            )
    has_checkpoint = any(isinstance(callback, Checkpoint) for callback in callbacks)
    if has_checkpoint and not checkpointing:
        reason = "a checkpoint callback is among the callbacks"
        raise ConfigError("Trainer(enable_checkpointing)", False, reason, "Leave one of the two out")
    if checkpointing and not has_checkpoint:
        callbacks.append(ModelCheckpoint())
    _add_bar(callbacks, bar)
    _add_summary(callbacks, summary)
    if max_time is not None and not any(isinstance(callback, Timer) for callback in callbacks):
        callbacks.append(Timer(duration=max_time))
    return checkpoints_last([*callbacks, *_from_entry_points()])


def checkpoints_last(callbacks: Iterable[Callback]) -> list[Callback]:
    """In the same order, but those that save come after those that they save."""
    return sorted(callbacks, key=lambda callback: isinstance(callback, Checkpoint))


def _listed(given: Any) -> list[Any]:
    several = isinstance(given, Iterable) and not isinstance(given, (str, bytes))
    return list(cast("Iterable[Any]", given)) if several else [given]


def _add_bar(callbacks: list[Callback], wanted: bool) -> None:
    bars = [callback for callback in callbacks if isinstance(callback, ProgressBar)]
    if len(bars) > 1:
        names = ", ".join(type(bar).__name__ for bar in bars)
        raise ConfigError("Trainer(callbacks)", names, "they would draw over each other", "Keep one of them")
    if bars and not wanted:
        reason = "a progress bar is among the callbacks"
        raise ConfigError("Trainer(enable_progress_bar)", False, reason, "Leave one of the two out")
    if wanted and not bars:
        from blixt.trainer.callbacks.text_bar import TQDMProgressBar

        callbacks.append(TQDMProgressBar())


def _add_summary(callbacks: list[Callback], wanted: bool) -> None:
    from blixt.trainer.callbacks.model_summary import ModelSummary
    from blixt.trainer.callbacks.rich_bar import RichProgressBar

    if not wanted or any(isinstance(callback, ModelSummary) for callback in callbacks):
        return
    if any(isinstance(callback, RichProgressBar) for callback in callbacks):
        from blixt.trainer.callbacks.model_summary import RichModelSummary

        callbacks.append(RichModelSummary())
    else:
        callbacks.append(ModelSummary())


def _from_entry_points() -> list[Callback]:
    from blixt.trainer import callback

    find = getattr(callback, "callbacks_from_entry_points", list)
    return find()
