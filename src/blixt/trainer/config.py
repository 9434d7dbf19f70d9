"""Every argument of the Trainer that is not about devices: its default, and what it may be."""

import ast
import functools
import inspect
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, ParamSpec, TypeVar

from blixt.fabric.errors import ConfigError, WrongTypeError, nearest
from blixt.trainer.interval import Interval, IntervalLike, seconds

Limit = int | float
MaxTime = str | timedelta | Mapping[str, float]
_PREFIX = "PL_TRAINER_"
_P = ParamSpec("_P")
_R = TypeVar("_R")

_BAREBONES_DEFAULTS: dict[str, Any] = {
    "enable_checkpointing": False,
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "log_every_n_steps": 0,
    "num_sanity_val_steps": 0,
    "fast_dev_run": False,
    "detect_anomaly": False,
    "profiler": None,
}
_USUAL_DEFAULTS: dict[str, Any] = {
    "enable_checkpointing": True,
    "logger": True,
    "enable_progress_bar": True,
    "enable_model_summary": True,
    "log_every_n_steps": 50,
    "num_sanity_val_steps": 2,
    "val_check_interval": 1.0,
    "gradient_clip_algorithm": "norm",
    **{f"limit_{stage}_batches": 1.0 for stage in ("train", "val", "test", "predict")},
}


@dataclass
class TrainerConfig:
    """Checked once, see `Trainer` for the meaning of each; some may be changed between runs.

    What a unit in a name adds: `val_check_s` is the wall time between validations when that is what was
    asked for, else None.
    """

    fast_dev_run: int
    max_epochs: int
    min_epochs: int
    max_steps: int
    min_steps: int
    max_time_s: float | None
    limit_train_batches: Limit
    limit_val_batches: Limit
    limit_test_batches: Limit
    limit_predict_batches: Limit
    overfit_batches: Limit
    val_check_interval: Limit
    val_check_s: float | None
    check_val_every_n_epoch: int | None
    num_sanity_val_steps: int
    log_every_n_steps: int
    accumulate_grad_batches: int
    gradient_clip_val: float | None
    gradient_clip_algorithm: Literal["norm", "value"]
    inference_mode: bool
    detect_anomaly: bool
    use_distributed_sampler: bool
    sync_batchnorm: bool
    reload_dataloaders_every_n_epochs: int
    enable_autolog_hparams: bool
    barebones: bool


def defaults_from_environment(init: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let `PL_TRAINER_<NAME>` stand in for arguments that are not given; values are read as Python's."""
    known = {name for name in inspect.signature(init).parameters if name not in ("self", "unknown")}

    @functools.wraps(init)
    def with_environment(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        found: dict[str, Any] = {}
        for variable, text in os.environ.items():
            if variable.startswith(_PREFIX):
                name = variable.removeprefix(_PREFIX).lower()
                if name in known:
                    found[name] = _value_of(text)
                else:
                    warnings.warn(f"{variable} is no argument. {nearest(name, known)}", stacklevel=2)
        return init(*args, **{**found, **kwargs})  # pyright: ignore[reportCallIssue] - names are checked

    return with_environment


def _value_of(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def apply_defaults(given: dict[str, Any]) -> dict[str, Any]:
    """Fill in what was left out (None), which depends on `barebones`.

    Raises:
        ConfigError: When `barebones` is on and something it turns off is asked for.
    """
    values = dict(given)
    if values["barebones"]:
        for name, off in _BAREBONES_DEFAULTS.items():
            value = values[name]
            if value is not None and value is not False and value != 0:
                reason = "barebones=True turns off everything that could slow a step down"
                raise ConfigError(f"Trainer({name})", value, reason, "Leave one of the two out")
            values[name] = off
    if values["val_check_interval"] is None and values["check_val_every_n_epoch"] is None:
        values["check_val_every_n_epoch"] = 1  # nothing to count across epochs was given
    for name, default in _USUAL_DEFAULTS.items():
        if values[name] is None:
            values[name] = default
    return values


def make_config(given: dict[str, Any]) -> TrainerConfig:
    """Resolve defaults that depend on other arguments and check every value.

    Args:
        given: All fields of `TrainerConfig` but those with a unit in their names, and `max_time`.

    Raises:
        ConfigError: Naming the argument, its value, the reason and the fix.
    """
    values = dict(given)
    _resolve_duration(values)
    max_time = values.pop("max_time")
    values["max_time_s"] = None if max_time is None else seconds(max_time, "Trainer(max_time)")
    _resolve_interval(values)
    if values["fast_dev_run"]:
        _apply_fast_dev_run(values)
    values["fast_dev_run"] = int(values["fast_dev_run"])
    for name in ("train", "val", "test", "predict"):
        _check_limit(f"limit_{name}_batches", values)
    _check_limit("overfit_batches", values)
    if values["overfit_batches"]:
        values["limit_train_batches"] = values["limit_val_batches"] = values["overfit_batches"]
    _check_validation(values)
    for name in ("log_every_n_steps", "reload_dataloaders_every_n_epochs"):
        at_least(name, values[name], 0)
    if type(values["accumulate_grad_batches"]) is dict:
        reason = "it is the same number in every epoch"
        fix = "Give the dict to the callback GradientAccumulationScheduler"
        raise ConfigError("Trainer(accumulate_grad_batches)", "a dict", reason, fix)
    at_least("accumulate_grad_batches", values["accumulate_grad_batches"], 1)
    _check_clipping(values)
    return TrainerConfig(**values)


def _resolve_duration(values: dict[str, Any]) -> None:
    steps, epochs, min_steps = values["max_steps"], values["max_epochs"], values["min_steps"]
    steps = values["max_steps"] = -1 if steps is None else steps
    _at_least_endless("max_steps", steps, "optimizer steps")
    if epochs is None:
        epochs = -1 if steps != -1 or values["max_time"] is not None else 1000
    values["max_epochs"] = _at_least_endless("max_epochs", epochs, "epochs")
    if values["min_epochs"] is None:
        values["min_epochs"] = 1 if min_steps else 0  # so that a stop asked for before training is heard late
    values["min_steps"] = min_steps or 0
    for name in ("min_epochs", "min_steps"):
        at_least(name, values[name], 0)


def _resolve_interval(values: dict[str, Any]) -> None:
    """Bring every form of `val_check_interval` into batches, a part of the epoch, or seconds."""
    given: Interval | IntervalLike = values["val_check_interval"]
    values["val_check_s"] = None
    if isinstance(given, (int, float)):
        return
    interval = Interval.parse(given, "Trainer(val_check_interval)")
    if interval.unit == "seconds":
        values.update(val_check_interval=1.0, val_check_s=interval.value)
    elif interval.unit == "batches":
        values.update(val_check_interval=int(interval.value), check_val_every_n_epoch=None)
    elif interval.value <= 1:
        values["val_check_interval"] = float(interval.value)
    elif float(interval.value).is_integer():
        values.update(val_check_interval=1.0, check_val_every_n_epoch=int(interval.value))
    else:
        reason = "more than one epoch has to be a whole number of them"
        raise ConfigError("Trainer(val_check_interval)", given, reason, "Use e.g. '2ep' or '0.5ep'")


def _apply_fast_dev_run(values: dict[str, Any]) -> None:
    batches = at_least("fast_dev_run", int(values["fast_dev_run"]), 1)
    for name in ("train", "val", "test", "predict"):
        values[f"limit_{name}_batches"] = batches
    values.update(max_epochs=1, max_steps=batches, min_epochs=0, min_steps=0, num_sanity_val_steps=0)
    values.update(val_check_interval=1.0, val_check_s=None, check_val_every_n_epoch=1)


def _check_limit(name: str, values: dict[str, Any]) -> None:
    values[name] = limit(name, values[name])


def limit(name: str, value: Any) -> Limit:
    """A checked number of batches, or part of them; 5.0 is five batches.

    Raises:
        ConfigError: When it is neither.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if 0 <= value <= 1:
            return value
        if value > 1 and value % 1 == 0:
            return int(value)
    reason = "it is a number of batches (int) or a part of them (float)"
    raise ConfigError(f"Trainer({name})", value, reason, "Use e.g. 10 or 0.25")


def _check_validation(values: dict[str, Any]) -> None:
    interval, epochs = values["val_check_interval"], values["check_val_every_n_epoch"]
    if epochs is not None:
        at_least("check_val_every_n_epoch", epochs, 1)
    whole = isinstance(interval, int) and not isinstance(interval, bool) and interval >= 1
    part = isinstance(interval, float) and 0.0 < interval <= 1.0
    if not (whole or part):
        reason = "it is batches (int >= 1), a part of the epoch (float up to 1.0), or a time"
        raise ConfigError("Trainer(val_check_interval)", interval, reason, "Use e.g. 500, 0.25 or '10min'")
    if epochs is None and not whole and values["val_check_s"] is None:
        reason = "check_val_every_n_epoch=None counts batches across epochs"
        fix = "Give a number of batches, e.g. 500, or a time, e.g. '10min'"
        raise ConfigError("Trainer(val_check_interval)", interval, reason, fix)
    at_least("num_sanity_val_steps", values["num_sanity_val_steps"], -1)


def _check_clipping(values: dict[str, Any]) -> None:
    algorithm, bound = values["gradient_clip_algorithm"], values["gradient_clip_val"]
    values["gradient_clip_algorithm"] = lower = str(algorithm).lower().rpartition(".")[2]
    if lower not in ("norm", "value"):
        raise ConfigError(
            "Trainer(gradient_clip_algorithm)", algorithm, "it is unknown", "Use 'norm' or 'value'"
        )
    if bound is None:
        return
    reason, fix = "a bound is a positive number", "Use None for no clipping"
    if not isinstance(bound, (int, float)) or isinstance(bound, bool):
        raise WrongTypeError("Trainer(gradient_clip_val)", bound, reason, fix)
    if bound < 0:
        raise ConfigError("Trainer(gradient_clip_val)", bound, reason, fix)


def at_least(name: str, value: Any, minimum: int) -> int:
    """`value` if it is a whole number of at least `minimum`.

    Raises:
        ConfigError: Otherwise.
    """
    if not isinstance(value, int) or value < minimum:
        reason = f"a whole number of at least {minimum} is needed"
        raise ConfigError(f"Trainer({name})", value, reason, f"Use {max(minimum, 1)} or more")
    return value


def _at_least_endless(name: str, value: Any, what: str) -> int:
    if not isinstance(value, int) or value < -1:
        raise ConfigError(f"Trainer({name})", value, f"it counts {what}", "Use -1 for no limit")
    return value
