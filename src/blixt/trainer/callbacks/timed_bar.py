"""A progress bar that is drawn by the clock: when to draw and what to say, but not how it looks."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from blixt.fabric import ConfigError
from blixt.trainer.callbacks.progress_bar import ProgressBar

if TYPE_CHECKING:
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer


@dataclass(frozen=True)
class Progress:
    """What one drawing says.

    Attributes:
        title: "Training", "Validation" ...
        epoch: Such as "epoch 2/10"; "" outside of training.
        done: Batches that are done.
        total: Batches in all; None when nobody knows.
        elapsed_s: Seconds since the first of them.
        per_s: Batches a second.
        metrics: Numbers by name.
    """

    title: str
    epoch: str
    done: int
    total: int | None
    elapsed_s: float
    per_s: float
    metrics: dict[str, Any]

    @property
    def left_s(self) -> float | None:
        """Seconds that are probably left; None when nobody knows."""
        return (self.total - self.done) / self.per_s if self.total and self.per_s > 0 else None

    @property
    def speed(self) -> str:
        """Batches a second, or seconds a batch."""
        slow = 0 < self.per_s < 1
        return f"{1 / self.per_s:.1f} s/it" if slow else f"{self.per_s:.1f} it/s"


class TimedBar(ProgressBar):
    """Decides when to draw: never more often than every `refresh_s`, and at the end of each stage.

    Metrics are fetched from the device only for a drawing. Subclasses implement `show` and `finish`.

    Args:
        refresh_rate: Draw at every so many batches at most; 0 for never.
        refresh_s: Seconds between drawings at least.
        leave: Keep the line of each epoch.
    """

    def __init__(self, refresh_rate: int = 1, refresh_s: float = 0.1, leave: bool = False) -> None:
        if refresh_rate < 0:
            raise ConfigError(
                "ProgressBar(refresh_rate)", refresh_rate, "it counts batches", "Use 0 for no bar"
            )
        self._rate = refresh_rate
        self._every_s = refresh_s
        self.leave = leave
        self._on = refresh_rate > 0
        self._next = 0.0
        self._began = 0.0
        self._first = 0
        self._paused = (0.0, 0)
        self._stage = "train"

    # --- what to override -------------------------------------------------------------------------

    def show(self, progress: Progress) -> None:
        """Draw."""

    def finish(self, progress: Progress, keep: bool) -> None:
        """Draw for the last time; `keep` says whether the line stays."""

    def abandon(self) -> None:
        """The run ends with an error: leave the terminal in order."""

    # --- switched on or off -----------------------------------------------------------------------

    @property
    def refresh_rate(self) -> int:
        """Batches between drawings at least."""
        return self._rate

    @property
    def is_disabled(self) -> bool:
        """Whether nothing is drawn."""
        return not self._on

    def disable(self) -> None:
        """Stop drawing."""
        self._on = False

    def enable(self) -> None:
        """Draw again."""
        self._on = True

    # --- training ---------------------------------------------------------------------------------

    def on_train_epoch_start(self, trainer: "Trainer", module: "Module") -> None:
        """Begin to measure the speed anew."""
        self._begin("train", trainer.counters.batch)

    def on_train_batch_end(
        self, trainer: "Trainer", module: "Module", outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw if it is time."""
        now = time.monotonic()
        if now >= self._next:
            self._draw(trainer, module, trainer.counters.batch, trainer.num_training_batches, now)

    def on_train_epoch_end(self, trainer: "Trainer", module: "Module") -> None:
        """Draw the epoch's last state."""
        if self._on:
            self._stage = "train"
            progress = self._progress(trainer, module, trainer.counters.batch, trainer.num_training_batches)
            last = trainer.counters.epoch + 1 == trainer.max_epochs or trainer.should_stop
            self.finish(progress, keep=self.leave or last)

    # --- the other stages -------------------------------------------------------------------------

    def on_validation_start(self, trainer: "Trainer", module: "Module") -> None:
        """Begin another line."""
        self._paused = (self._began, self._first)
        self._begin("sanity_check" if trainer.sanity_checking else "validate")

    def on_validation_batch_end(
        self,
        trainer: "Trainer",
        module: "Module",
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw if it is time."""
        if time.monotonic() >= self._next:
            self._draw(trainer, module, batch_idx + 1, self.total_val_batches_current_dataloader)

    def on_validation_end(self, trainer: "Trainer", module: "Module") -> None:
        """Go on with training's line."""
        self._began, self._first = self._paused
        self._stage = "train"

    def on_test_start(self, trainer: "Trainer", module: "Module") -> None:
        """Begin a line."""
        self._begin("test")

    def on_test_batch_end(
        self,
        trainer: "Trainer",
        module: "Module",
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw if it is time."""
        if time.monotonic() >= self._next:
            self._draw(trainer, module, batch_idx + 1, self.total_test_batches_current_dataloader)

    def on_test_end(self, trainer: "Trainer", module: "Module") -> None:
        """Take the line away; the results come."""
        self.abandon()

    def on_predict_start(self, trainer: "Trainer", module: "Module") -> None:
        """Begin a line."""
        self._begin("predict")

    def on_predict_batch_end(
        self,
        trainer: "Trainer",
        module: "Module",
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw if it is time."""
        if time.monotonic() >= self._next:
            self._draw(trainer, module, batch_idx + 1, self.total_predict_batches_current_dataloader)

    def on_predict_end(self, trainer: "Trainer", module: "Module") -> None:
        """Take the line away."""
        self.abandon()

    def on_exception(self, trainer: "Trainer", module: "Module", exception: BaseException) -> None:
        """Do not leave the error in the middle of a line."""
        self.abandon()

    # --- how --------------------------------------------------------------------------------------

    def _begin(self, stage: str, done: int = 0) -> None:
        self._stage, self._first, self._began = stage, done, time.monotonic()
        self._next = self._began + self._every_s

    def _draw(
        self, trainer: "Trainer", module: "Module", done: int, total: float, now: float | None = None
    ) -> None:
        self._next = (time.monotonic() if now is None else now) + self._every_s
        if self._on and done % self._rate == 0:
            self.show(self._progress(trainer, module, done, total))

    def _progress(self, trainer: "Trainer", module: "Module", done: int, total: float) -> Progress:
        elapsed_s = max(time.monotonic() - self._began, 1e-9)
        epochs = f"/{trainer.max_epochs}" if trainer.max_epochs not in (None, -1) else ""
        return Progress(
            title=self.title(self._stage),
            epoch=f"epoch {trainer.current_epoch + 1}{epochs}" if self._stage == "train" else "",
            done=done,
            total=int(total) if total != float("inf") else None,
            elapsed_s=elapsed_s,
            per_s=(done - self._first) / elapsed_s,
            metrics=_plain(self.get_metrics(trainer, module)) if trainer.stage == "fit" else {},
        )


def _plain(metrics: dict[str, Any]) -> dict[str, Any]:
    """An overridden `get_metrics` may add tensors, but a bar shows numbers."""
    return {
        name: value.item() if isinstance(value, torch.Tensor) and value.numel() == 1 else value
        for name, value in metrics.items()
    }
