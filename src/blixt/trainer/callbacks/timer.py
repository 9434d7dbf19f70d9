"""Stop training when its time is up."""

import time
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from blixt.fabric import ConfigError
from blixt.trainer.callback import Callback
from blixt.trainer.callbacks.timed import TimedDecision
from blixt.trainer.interval import seconds

if TYPE_CHECKING:
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer


class Interval(StrEnum):
    """When a `Timer` looks at the clock."""

    step = "step"
    epoch = "epoch"


TimedStage = Literal["train", "validate", "test"]


class Timer(Callback):
    """Measures how long the stages take, and ends training after a given time.

    Time that a run spent before it was resumed counts.

    Args:
        duration: "DD:HH:MM:SS", a number with its unit such as "90min", a timedelta, a dict for one, or None
            for no limit.
        interval: Look at the clock after every "step" or after every "epoch".
        verbose: Say when the time is up.

    Example:
        >>> Timer("00:00:00:05").time_remaining()
        5.0
    """

    def __init__(
        self,
        duration: str | timedelta | Mapping[str, float] | None = None,
        interval: Literal["step", "epoch"] | Interval = Interval.step,
        verbose: bool = True,
    ) -> None:
        if interval not in list(Interval):
            raise ConfigError("Timer(interval)", interval, "it is unknown", "Use 'step' or 'epoch'")
        self._limit_s = None if duration is None else seconds(duration, "Timer(duration)")
        self.interval = Interval(interval)
        self.verbose = verbose
        self._offset_s = 0.0
        self._began: dict[str, float] = {}
        self._ended: dict[str, float] = {}
        self._decision: TimedDecision | None = None

    def start_time(self, stage: TimedStage = "train") -> float | None:
        """When a stage began, on `time.monotonic`'s clock; None before."""
        return self._began.get(stage)

    def end_time(self, stage: TimedStage = "train") -> float | None:
        """When a stage ended, on `time.monotonic`'s clock; None before."""
        return self._ended.get(stage)

    def time_elapsed(self, stage: TimedStage = "train") -> float:
        """Seconds that a stage has taken, training with those before it was resumed."""
        offset = self._offset_s if stage == "train" else 0.0
        if stage not in self._began:
            return offset
        return self._ended.get(stage, time.monotonic()) - self._began[stage] + offset

    def time_remaining(self, stage: TimedStage = "train") -> float | None:
        """Seconds that are left; None without a limit."""
        return None if self._limit_s is None else self._limit_s - self.time_elapsed(stage)

    def state_dict(self) -> dict[str, Any]:
        """How long each stage has taken."""
        return {"time_elapsed": {"train": self.time_elapsed()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Count the time before."""
        self._offset_s = float(state_dict.get("time_elapsed", {}).get("train", 0.0))

    def on_train_start(self, trainer: "Trainer", module: "Module") -> None:
        """Start the clock of training."""
        self._start("train")
        if self._limit_s is not None:
            self._decision = TimedDecision(trainer.fabric, lambda: self.time_remaining() or 0.0)

    def on_train_end(self, trainer: "Trainer", module: "Module") -> None:
        """Stop it."""
        self._ended["train"] = time.monotonic()

    def on_validation_start(self, trainer: "Trainer", module: "Module") -> None:
        """Start the clock of validation."""
        self._start("validate")

    def on_validation_end(self, trainer: "Trainer", module: "Module") -> None:
        """Stop it."""
        self._ended["validate"] = time.monotonic()

    def on_test_start(self, trainer: "Trainer", module: "Module") -> None:
        """Start the clock of the test."""
        self._start("test")

    def on_test_end(self, trainer: "Trainer", module: "Module") -> None:
        """Stop it."""
        self._ended["test"] = time.monotonic()

    def on_fit_start(self, trainer: "Trainer", module: "Module") -> None:
        """A resumed run whose time is up does not begin another step."""
        if self._limit_s is not None and self._offset_s >= self._limit_s:
            trainer.should_stop = True

    def on_train_batch_end(
        self, trainer: "Trainer", module: "Module", outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop if the time is up."""
        if self.interval is Interval.step:
            self._look(trainer)

    def on_train_epoch_end(self, trainer: "Trainer", module: "Module") -> None:
        """Stop if the time is up."""
        if self.interval is Interval.epoch:
            self._look(trainer)

    def _start(self, stage: str) -> None:
        self._began[stage] = time.monotonic()
        self._ended.pop(stage, None)

    def _look(self, trainer: "Trainer") -> None:
        if self._decision is not None and self._decision.due(trainer.counters.batches):
            if self.verbose and not trainer.should_stop:
                trainer.print(f"Timer: time is up after {self.time_elapsed():.0f} s, training stops.")
            trainer.should_stop = True
