"""Every argument of the Trainer that is not about devices: its default, and what it may be."""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, cast

from blixt.fabric import ConfigError

Limit = int | float
MaxTime = str | timedelta | dict[str, int]


@dataclass(frozen=True)
class TrainerConfig:
    """Checked once, then only read; see `Trainer` for the meaning of each."""

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
    check_val_every_n_epoch: int | None
    num_sanity_val_steps: int
    log_every_n_steps: int
    accumulate_grad_batches: int
    gradient_clip_val: float | None
    gradient_clip_algorithm: Literal["norm", "value"]
    inference_mode: bool
    detect_anomaly: bool
    use_distributed_sampler: bool


def make_config(given: dict[str, Any]) -> TrainerConfig:
    """Resolve defaults that depend on other arguments and check every value.

    Raises:
        ConfigError: Naming the argument, its value, the reason and the fix.
    """
    values = dict(given)
    _resolve_duration(values)
    values["max_time_s"] = _seconds(values.pop("max_time"))
    values["min_epochs"] = _at_least("min_epochs", values["min_epochs"] or 0, 0)
    values["min_steps"] = _at_least("min_steps", values["min_steps"] or 0, 0)
    if values["fast_dev_run"]:
        _apply_fast_dev_run(values)
    values["fast_dev_run"] = int(values["fast_dev_run"])
    for name in ("train", "val", "test", "predict"):
        _check_limit(f"limit_{name}_batches", values)
    _check_limit("overfit_batches", values)
    if values["overfit_batches"]:
        values["limit_train_batches"] = values["limit_val_batches"] = values["overfit_batches"]
    _check_validation(values)
    _at_least("log_every_n_steps", values["log_every_n_steps"], 0)
    _at_least("accumulate_grad_batches", values["accumulate_grad_batches"], 1)
    _check_clipping(values)
    return TrainerConfig(**values)


def _resolve_duration(values: dict[str, Any]) -> None:
    epochs, steps = values["max_epochs"], values["max_steps"]
    if not isinstance(steps, int) or steps < -1:
        raise ConfigError("Trainer(max_steps)", steps, "it counts optimizer steps", "Use -1 for no limit")
    if epochs is None:
        epochs = -1 if steps != -1 or values["max_time"] is not None else 1000
    elif not isinstance(epochs, int) or epochs < -1:
        raise ConfigError("Trainer(max_epochs)", epochs, "it counts epochs", "Use -1 for no limit")
    values["max_epochs"] = epochs


def _apply_fast_dev_run(values: dict[str, Any]) -> None:
    batches = _at_least("fast_dev_run", int(values["fast_dev_run"]), 1)
    for name in ("train", "val", "test", "predict"):
        values[f"limit_{name}_batches"] = batches
    values.update(max_epochs=1, max_steps=batches, min_epochs=0, min_steps=0, num_sanity_val_steps=0)
    values.update(val_check_interval=1.0, check_val_every_n_epoch=1, overfit_batches=0.0)


def _check_limit(name: str, values: dict[str, Any]) -> None:
    value = values[name]
    fits = not isinstance(value, bool) and (
        (isinstance(value, int) and value >= 0) or (isinstance(value, float) and 0.0 <= value <= 1.0)
    )
    if not fits:
        reason = "it is a number of batches (int) or a part of them (float)"
        raise ConfigError(f"Trainer({name})", value, reason, "Use e.g. 10 or 0.25")


def _check_validation(values: dict[str, Any]) -> None:
    interval, epochs = values["val_check_interval"], values["check_val_every_n_epoch"]
    if epochs is not None:
        _at_least("check_val_every_n_epoch", epochs, 1)
    whole = isinstance(interval, int) and not isinstance(interval, bool) and interval >= 1
    part = isinstance(interval, float) and 0.0 < interval <= 1.0
    if not (whole or part):
        reason = "it is a number of batches (int >= 1) or a part of the epoch (float up to 1.0)"
        raise ConfigError("Trainer(val_check_interval)", interval, reason, "Use e.g. 500 or 0.25")
    if epochs is None and not whole:
        reason = "check_val_every_n_epoch=None counts batches across epochs"
        raise ConfigError(
            "Trainer(val_check_interval)", interval, reason, "Give a number of batches, e.g. 500"
        )
    _at_least("num_sanity_val_steps", values["num_sanity_val_steps"], -1)


def _check_clipping(values: dict[str, Any]) -> None:
    algorithm, bound = values["gradient_clip_algorithm"], values["gradient_clip_val"]
    if algorithm not in ("norm", "value"):
        raise ConfigError(
            "Trainer(gradient_clip_algorithm)", algorithm, "it is unknown", "Use 'norm' or 'value'"
        )
    if bound is not None and not (isinstance(bound, (int, float)) and bound > 0):
        raise ConfigError(
            "Trainer(gradient_clip_val)", bound, "a bound is positive", "Use None for no clipping"
        )


def _at_least(name: str, value: Any, minimum: int) -> int:
    if not isinstance(value, int) or value < minimum:
        reason = f"a whole number of at least {minimum} is needed"
        raise ConfigError(f"Trainer({name})", value, reason, f"Use {max(minimum, 1)} or more")
    return value


def _seconds(max_time: Any) -> float | None:
    if max_time is None:
        return None
    if isinstance(max_time, timedelta):
        return max_time.total_seconds()
    if isinstance(max_time, dict):
        parts = cast("dict[str, float]", max_time)
        try:
            return timedelta(**parts).total_seconds()
        except TypeError as error:
            raise ConfigError("Trainer(max_time)", parts, str(error), "Use e.g. {'hours': 1}") from None
    match = re.fullmatch(r"(\d+):(\d\d):(\d\d):(\d\d)", str(max_time))
    if match is None:
        raise ConfigError("Trainer(max_time)", max_time, "it is not DD:HH:MM:SS", "Use e.g. '00:01:30:00'")
    days, hours, minutes, seconds = (int(part) for part in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds()
