"""The forms that `configure_optimizers` may return, brought into one."""

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, Literal, cast

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau

from blixt.fabric import ConfigError, WrongTypeError, nearest
from blixt.trainer.optimizer_handle import TrainerOptimizer

_FORMS = (
    "Return an optimizer, a list of them, (optimizers, schedulers), a dict with 'optimizer' and "
    "'lr_scheduler', several such dicts, or None"
)


@dataclass
class SchedulerConfig:
    """A learning-rate scheduler and when it steps.

    Attributes:
        scheduler: Anything with `step`, `state_dict` and `load_state_dict`.
        interval: Step after optimizer steps, or at the end of epochs.
        frequency: Every so many of them.
        monitor: Metric that the scheduler wants to see.
        strict: Whether a missing metric is an error.
        name: For `LearningRateMonitor`.
        reduce_on_plateau: Whether `step` takes the metric.
    """

    scheduler: Any
    interval: Literal["epoch", "step"] = "epoch"
    frequency: int = 1
    monitor: str | None = None
    strict: bool = True
    name: str | None = None
    reduce_on_plateau: bool = False


class NoOptimizer(Optimizer):
    """Stands in when `configure_optimizers` returns None: the fit runs and moves nothing."""

    def __init__(self) -> None:
        super().__init__([torch.zeros(1)], {})
        self.param_groups.clear()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Only compute."""
        return closure() if closure is not None else None


def parse_optimizers(
    configured: Any, automatic: bool = True
) -> tuple[list[Optimizer], list[SchedulerConfig]]:
    """Optimizers and schedulers from whatever `configure_optimizers` returned.

    Args:
        configured: In any of its forms.
        automatic: Whether the trainer steps the schedulers; else they are only kept, and need less.

    Raises:
        ConfigError: When it is none of the known forms.
    """
    optimizers, schedulers = _split(configured)
    bare = [item.optimizer if isinstance(item, TrainerOptimizer) else item for item in optimizers]
    for item in bare:
        if not isinstance(item, Optimizer):  # pyright: ignore[reportUnnecessaryIsInstance]
            reason = "it is no torch.optim.Optimizer"
            raise ConfigError("configure_optimizers()", type(item).__name__, reason, _FORMS)
    for config in schedulers if automatic else []:
        _check(config, bare)
    return bare, schedulers


def _split(configured: Any) -> tuple[list[Any], list[SchedulerConfig]]:
    if configured is None:
        return [], []
    if isinstance(configured, (Optimizer, TrainerOptimizer)):
        return [configured], []
    if isinstance(configured, Mapping):
        return _from_dicts([cast("Mapping[str, Any]", configured)])
    items = _as_list(configured)
    if len(items) == 2 and isinstance(items[0], (list, tuple)):
        optimizers = list(cast("Sequence[Any]", items[0]))
        return optimizers, [_scheduler(item, None) for item in _as_list(items[1])]
    if items and all(isinstance(item, (Optimizer, TrainerOptimizer)) for item in items):
        return items, []
    if items and all(isinstance(item, Mapping) for item in items):
        return _from_dicts(items)
    raise ConfigError(
        "configure_optimizers()", type(configured).__name__, "this is none of the forms it may return", _FORMS
    )


def _as_list(items: Any) -> list[Any]:
    return list(cast("Sequence[Any]", items)) if isinstance(items, (list, tuple)) else [items]


def _from_dicts(dicts: Sequence[Mapping[str, Any]]) -> tuple[list[Any], list[SchedulerConfig]]:
    optimizers: list[Any] = []
    schedulers: list[SchedulerConfig] = []
    for item in dicts:
        _check_keys("configure_optimizers()", item, ("optimizer", "lr_scheduler", "monitor"))
        if "optimizer" not in item:
            reason, hint = (
                "the key 'optimizer' is missing",
                "Use the keys optimizer, lr_scheduler and monitor",
            )
            raise ConfigError("configure_optimizers()", sorted(item), reason, hint)
        optimizers.append(item["optimizer"])
        if item.get("lr_scheduler") is not None:
            schedulers.append(_scheduler(item["lr_scheduler"], item.get("monitor")))
    return optimizers, schedulers


def _scheduler(item: Any, monitor: str | None) -> SchedulerConfig:
    if isinstance(item, SchedulerConfig):
        config = item
    elif isinstance(item, Mapping):
        options = dict(cast("Mapping[str, Any]", item))
        known = [field.name for field in fields(SchedulerConfig)]
        _check_keys("configure_optimizers(lr_scheduler)", options, known)
        if "scheduler" not in options:
            reason = "the key 'scheduler' is missing"
            raise ConfigError("configure_optimizers(lr_scheduler)", sorted(options), reason, "Add it")
        config = SchedulerConfig(**{name: options[name] for name in known if name in options})
    else:
        config = SchedulerConfig(item)
    says_when = isinstance(item, SchedulerConfig) or (isinstance(item, Mapping) and "interval" in item)
    if isinstance(config.scheduler, OneCycleLR) and not says_when:
        warnings.warn(
            "OneCycleLR steps once an epoch, and its total_steps are mostly batches: return "
            "{'scheduler': ..., 'interval': 'step'}, or say 'epoch' to keep it so.",
            RuntimeWarning,
            stacklevel=2,
        )
    config.monitor = config.monitor or monitor
    config.reduce_on_plateau |= isinstance(config.scheduler, ReduceLROnPlateau)
    return config


def _check_keys(owner: str, item: Mapping[str, Any], known: Sequence[str]) -> None:
    """A key that looks misspelt is refused; any other, which people keep for themselves, is told and left."""
    for key in item:
        if key in known:
            continue
        if get_close_matches(key, known, n=1, cutoff=0.7):
            raise ConfigError(owner, key, "there is no such key", nearest(key, known).rstrip("?"))
        text = f"{owner} returned the key {key!r}, which nothing reads: known are {', '.join(known)}."
        warnings.warn(text, RuntimeWarning, stacklevel=3)


def _check(config: SchedulerConfig, optimizers: list[Any]) -> None:
    if config.interval not in ("epoch", "step"):
        raise ConfigError("lr_scheduler(interval)", config.interval, "it is unknown", "Use 'epoch' or 'step'")
    if not isinstance(config.frequency, int) or config.frequency < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError("lr_scheduler(frequency)", config.frequency, "it counts", "Use 1 or more")
    if config.reduce_on_plateau and config.monitor is None:
        reason = "a plateau is one of a metric"
        raise ConfigError("lr_scheduler(monitor)", None, reason, "Name the metric, e.g. 'val_loss'")
    scheduler = config.scheduler
    missing = [name for name in ("step", "state_dict", "load_state_dict") if not hasattr(scheduler, name)]
    if missing or inspect.isclass(scheduler):
        reason = f"it has no {', '.join(missing)}" if missing else "it is a class"
        fix = "Give a scheduler, made with its optimizer"
        raise WrongTypeError("lr_scheduler(scheduler)", type(scheduler).__name__, reason, fix)
    own = getattr(scheduler, "optimizer", None)
    own = own.optimizer if isinstance(own, TrainerOptimizer) else own
    if isinstance(own, Optimizer) and all(own is not optimizer for optimizer in optimizers):
        reason = "it belongs to an optimizer that was not returned"
        raise ConfigError(
            "lr_scheduler(scheduler)", type(scheduler).__name__, reason, "Return that optimizer too"
        )
