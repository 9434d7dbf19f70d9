"""Stop when a metric no longer gets better."""

import math
from typing import TYPE_CHECKING, Any, Literal

import torch

from blixt.fabric import ConfigError
from blixt.trainer.callback import Callback

if TYPE_CHECKING:
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer


class EarlyStopping(Callback):
    """Asks the trainer to stop; all ranks stop if one of them wants to.

    Args:
        monitor: The metric.
        min_delta: What counts as better.
        patience: How many checks without improvement are allowed.
        verbose: Say what happens.
        mode: Whether a small or a large value is good.
        strict: Whether a missing metric is an error.
        check_finite: Stop when the metric is NaN or infinite.
        stopping_threshold: Stop when it is this good.
        divergence_threshold: Stop when it is this bad.
        check_on_train_epoch_end: Check then rather than after validation; default: when there is none.
    """

    def __init__(
        self,
        monitor: str,
        min_delta: float = 0.0,
        patience: int = 3,
        verbose: bool = False,
        mode: Literal["min", "max"] = "min",
        strict: bool = True,
        check_finite: bool = True,
        stopping_threshold: float | None = None,
        divergence_threshold: float | None = None,
        check_on_train_epoch_end: bool | None = None,
    ) -> None:
        if mode not in ("min", "max"):
            raise ConfigError("EarlyStopping(mode)", mode, "it is unknown", "Use 'min' or 'max'")
        self.monitor = monitor
        self.min_delta = abs(min_delta)
        self.patience = patience
        self.verbose = verbose
        self.mode: Literal["min", "max"] = mode
        self.strict = strict
        self.check_finite = check_finite
        self.stopping_threshold = stopping_threshold
        self.divergence_threshold = divergence_threshold
        self.check_on_train_epoch_end = check_on_train_epoch_end
        self.wait_count = 0
        self.stopped_epoch = 0
        self.stopping_reason: str | None = None
        self.best_score = torch.tensor(math.inf if mode == "min" else -math.inf)

    @property
    def state_key(self) -> str:
        """Distinguishes several of these in one run."""
        return f"EarlyStopping{{'monitor': {self.monitor!r}, 'mode': {self.mode!r}}}"

    def state_dict(self) -> dict[str, Any]:
        """How patient it still is."""
        return {
            "wait_count": self.wait_count,
            "stopped_epoch": self.stopped_epoch,
            "best_score": self.best_score,
            "patience": self.patience,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on being as patient."""
        self.wait_count = state_dict["wait_count"]
        self.stopped_epoch = state_dict["stopped_epoch"]
        self.best_score = state_dict["best_score"]

    def on_validation_end(self, trainer: "Trainer", module: "Module") -> None:
        """Check after validation."""
        if not self.check_on_train_epoch_end and trainer.stage == "fit" and not trainer.sanity_checking:
            self._check(trainer)

    def on_checkpoint_due(self, trainer: "Trainer", module: "Module", at_epoch_end: bool) -> None:
        """Check when the epoch's numbers are there."""
        at_end = self.check_on_train_epoch_end
        if at_epoch_end and (not trainer.validates if at_end is None else at_end):
            self._check(trainer)

    def _check(self, trainer: "Trainer") -> None:
        metrics = trainer.callback_metrics
        if self.monitor not in metrics:
            if self.strict:
                known = ", ".join(sorted(metrics)) or "none"
                reason = f"no such metric has been logged; known: {known}"
                raise ConfigError(
                    "EarlyStopping(monitor)", self.monitor, reason, "Log it, or correct the name"
                )
            return
        reason = self._judge(float(metrics[self.monitor]))
        if trainer.fabric.all_reduce(float(reason is not None), "max"):
            trainer.should_stop = True
            self.stopped_epoch = trainer.current_epoch
            self.stopping_reason = reason or "another rank wanted to stop"
            if self.verbose:
                trainer.print(f"EarlyStopping: {self.stopping_reason}")

    def _judge(self, value: float) -> str | None:
        """Why to stop, or None; counts the checks without improvement."""
        sign = 1.0 if self.mode == "min" else -1.0
        best = float(self.best_score)
        if self.check_finite and not math.isfinite(value):
            return f"{self.monitor} is {value}"
        if self.stopping_threshold is not None and sign * value < sign * self.stopping_threshold:
            return f"{self.monitor} {value:g} is better than the threshold {self.stopping_threshold:g}"
        if self.divergence_threshold is not None and sign * value > sign * self.divergence_threshold:
            return f"{self.monitor} {value:g} is worse than the threshold {self.divergence_threshold:g}"
        if sign * value < sign * best - self.min_delta:
            self.best_score = torch.tensor(value)
            self.wait_count = 0
            return None
        self.wait_count += 1
        if self.wait_count < self.patience:
            return None
        return f"{self.monitor} has not improved on {best:g} in {self.wait_count} checks"
