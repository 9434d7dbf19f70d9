"""Stop when a metric no longer gets better."""

import math
import warnings
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Literal

import torch

from blixt.fabric import ConfigError
from blixt.trainer.callback import Callback

if TYPE_CHECKING:
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer


class EarlyStoppingReason(IntEnum):
    """Why an `EarlyStopping` asked to stop."""

    NOT_STOPPED = 0
    STOPPING_THRESHOLD = 1
    DIVERGENCE_THRESHOLD = 2
    PATIENCE_EXHAUSTED = 3
    NON_FINITE_METRIC = 4


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
        stopping_threshold: Stop when it is better than this.
        divergence_threshold: Stop when it is worse than this.
        check_on_train_epoch_end: Check then rather than after validation; default: only when there is no
            validation, or one at the end of each epoch.
        log_rank_zero_only: With `verbose`, let only rank 0 say what happens.

    Attributes:
        wait_count: Checks without improvement so far.
        best_score: The best value so far.
        stopped_epoch: The epoch in which it asked to stop; 0 before.
        stopping_reason: Why, as an `EarlyStoppingReason`.
        stopping_reason_message: Why, in words; None before.
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
        log_rank_zero_only: bool = False,
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
        self.log_rank_zero_only = log_rank_zero_only
        self.wait_count = 0
        self.stopped_epoch = 0
        self.stopping_reason = EarlyStoppingReason.NOT_STOPPED
        self.stopping_reason_message: str | None = None
        self.best_score = torch.tensor(math.inf if mode == "min" else -math.inf)

    @property
    def state_key(self) -> str:
        """Distinguishes several of these in one run."""
        return f"{type(self).__qualname__}{ {'monitor': self.monitor, 'mode': self.mode}!r}"

    def state_dict(self) -> dict[str, Any]:
        """How patient it still is."""
        return {
            "wait_count": self.wait_count,
            "stopped_epoch": self.stopped_epoch,
            "best_score": self.best_score,
            "patience": self.patience,
            "stopping_reason": int(self.stopping_reason),
            "stopping_reason_message": self.stopping_reason_message,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on being as patient."""
        self.wait_count = state_dict["wait_count"]
        self.stopped_epoch = state_dict["stopped_epoch"]
        self.best_score = state_dict["best_score"]
        self.patience = state_dict["patience"]
        self.stopping_reason = EarlyStoppingReason(state_dict.get("stopping_reason", 0))
        self.stopping_reason_message = state_dict.get("stopping_reason_message")

    def setup(self, trainer: "Trainer", module: "Module", stage: str) -> None:
        """Decide when to check."""
        if self.check_on_train_epoch_end is None:
            config = trainer.config
            self.check_on_train_epoch_end = (
                config.val_check_interval == 1.0 and config.check_val_every_n_epoch == 1
            )

    def on_validation_end(self, trainer: "Trainer", module: "Module") -> None:
        """Check after validation."""
        if not self.check_on_train_epoch_end and trainer.stage == "fit" and not trainer.sanity_checking:
            self._run_early_stopping_check(trainer)

    def on_train_epoch_end(self, trainer: "Trainer", module: "Module") -> None:
        """Check when the epoch's numbers are there; this runs after the module's own hook."""
        if self.check_on_train_epoch_end or not trainer.validates:
            self._run_early_stopping_check(trainer)

    def _run_early_stopping_check(self, trainer: "Trainer") -> None:
        metrics = trainer.callback_metrics
        if trainer.config.fast_dev_run:
            return
        if self.monitor not in metrics:
            error = trainer.logbook.missing("EarlyStopping(monitor)", self.monitor)
            if self.strict:
                raise error
            if self.verbose:
                warnings.warn(str(error), RuntimeWarning, stacklevel=2)
            return
        stops, message = self._evaluate_stopping_criteria(metrics[self.monitor].detach().cpu().reshape(()))
        if trainer.world_size > 1:
            others = trainer.fabric.all_reduce(float(1 + self.stopping_reason) if stops else 0.0, "max")
            if others and not stops:
                self.stopping_reason = EarlyStoppingReason(int(others) - 1)
                stops, message = True, "another rank wanted to stop"
        if stops:
            trainer.should_stop = True
            self.stopped_epoch = trainer.current_epoch
            self.stopping_reason_message = message
        if message and self.verbose and (trainer.is_global_zero or not self.log_rank_zero_only):
            rank = f"[rank {trainer.global_rank}] " if trainer.world_size > 1 else ""
            print(f"{rank}EarlyStopping: {message}")

    def _evaluate_stopping_criteria(self, current: torch.Tensor) -> tuple[bool, str | None]:
        """Whether to stop and what to say; counts checks without improvement. Override it for other rules."""
        value, best = float(current), float(self.best_score)
        # In the metric's own precision: 0.6 of 32 bits is the threshold 0.6, and not beyond it.
        sign, beats = (1.0, torch.lt) if self.mode == "min" else (-1.0, torch.gt)
        if self.check_finite and not math.isfinite(value):
            self.stopping_reason = EarlyStoppingReason.NON_FINITE_METRIC
            return True, f"{self.monitor} = {value} is not finite, the best was {best:g}"
        if self.stopping_threshold is not None and beats(current, self.stopping_threshold):
            self.stopping_reason = EarlyStoppingReason.STOPPING_THRESHOLD
            return True, f"{self.monitor} {value:g} is better than the threshold {self.stopping_threshold:g}"
        if self.divergence_threshold is not None and beats(-current, -self.divergence_threshold):
            self.stopping_reason = EarlyStoppingReason.DIVERGENCE_THRESHOLD
            return True, f"{self.monitor} {value:g} is worse than the threshold {self.divergence_threshold:g}"
        if beats(current + sign * self.min_delta, self.best_score):
            self.best_score, self.wait_count = current, 0
            return False, f"{self.monitor} is better: {value:g} (before: {best:g})"
        self.wait_count += 1
        if self.wait_count < self.patience:
            return False, None
        self.stopping_reason = EarlyStoppingReason.PATIENCE_EXHAUSTED
        return True, f"{self.monitor} did not improve on {best:g} in {self.wait_count} checks"
