"""The learning-rate range test (Smith: "Cyclical Learning Rates for Training Neural Networks", WACV 2017)."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from blixt.fabric import ConfigError
from blixt.trainer.callback import Callback
from blixt.trainer.tuner_trial import branch, on_trial

if TYPE_CHECKING:
    from blixt.trainer.datamodule import DataModule
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer

Mode = Literal["exponential", "linear"]
_SMOOTHING = 0.98


class LRFinder:
    """What a range test found.

    Attributes:
        mode: How the learning rate grew.
        lr_min: From where.
        lr_max: To where.
        num_training: In how many steps.
        results: "lr", the learning rate of each step, and "loss", the smoothed loss after it.
    """

    def __init__(self, mode: Mode, lr_min: float, lr_max: float, num_training: int) -> None:
        self.mode: Mode = mode
        self.lr_min = lr_min
        self.lr_max = lr_max
        self.num_training = num_training
        self.results: dict[str, list[float]] = {"lr": [], "loss": []}

    def suggestion(self, skip_begin: int = 10, skip_end: int = 1) -> float | None:
        """The learning rate at which the loss fell most steeply, on the scale on which the rate grew.

        Args:
            skip_begin: First steps that are too noisy to count.
            skip_end: Last steps that do not count.

        Returns:
            The learning rate, or None when fewer than two finite losses are left.
        """
        index = self._steepest(skip_begin, skip_end)
        return None if index is None else self.results["lr"][index]

    def plot(self, suggest: bool = False, show: bool = False, ax: Any = None) -> Any:
        """Draw loss over learning rate with matplotlib.

        Args:
            suggest: Mark the suggestion.
            show: Open a window.
            ax: Axes to draw on; default a new figure.

        Returns:
            The figure.
        """
        try:
            import matplotlib.pyplot as plt
        except ImportError:
            reason = "matplotlib is not installed"
            raise ConfigError("LRFinder.plot()", "", reason, "Run: pip install matplotlib") from None
        axes: Any = plt.subplots()[1] if ax is None else ax  # pyright: ignore[reportUnknownMemberType]
        axes.plot(self.results["lr"], self.results["loss"])
        if self.mode == "exponential":
            axes.set_xscale("log")
        axes.set_xlabel("Learning rate")
        axes.set_ylabel("Loss")
        index = self._steepest(10, 1) if suggest else None
        if index is not None:
            point = (self.results["lr"][index], self.results["loss"][index])
            axes.plot(*point, markersize=10, marker="o", color="red")
        if show:
            plt.show()  # pyright: ignore[reportUnknownMemberType]
        return axes.figure

    def _steepest(self, skip_begin: int, skip_end: int) -> int | None:
        stop = len(self.results["loss"]) - skip_end
        usable = [i for i in range(skip_begin, stop) if math.isfinite(self.results["loss"][i])]
        if len(usable) < 2:
            return None
        losses = torch.tensor([self.results["loss"][i] for i in usable])
        # Steep on the scale on which the rate grows: per unit of the rate itself, the noise between two tiny
        # rates of an exponential test would always be the steepest.
        scale = math.log if self.mode == "exponential" else float
        rates = torch.tensor([scale(self.results["lr"][i]) for i in usable])
        slopes: torch.Tensor = torch.gradient(losses, spacing=[rates])[0]
        return usable[int(slopes.argmin())]


def rate_at(step: int, low: float, high: float, steps: int, mode: Mode) -> float:
    """The learning rate of one step of a range test.

    Example:
        >>> [round(rate_at(i, 1e-3, 1.0, 3, "linear"), 3) for i in range(3)]
        [0.001, 0.667, 1.0]
    """
    part = (step + 1) / steps if step else 0.0
    return low * (high / low) ** part if mode == "exponential" else low + part * (high - low)


def range_test(
    trainer: "Trainer",
    module: "Module",
    fit: Mapping[str, Any],
    datamodule: "DataModule | None",
    finder: LRFinder,
    early_stop_threshold: float | None,
) -> None:
    """Fill `finder.results` by training on the side.

    Args:
        trainer: On whose devices.
        module: What is trained; its weights come back.
        fit: Loaders for `Trainer.fit`.
        datamodule: Or where they come from.
        finder: What to try, and where the results go.
        early_stop_threshold: Stop when the loss is so many times the best; None for never.
    """
    recorder = _Recorder(finder, early_stop_threshold)
    twin = branch(
        trainer,
        [recorder],
        max_steps=finder.num_training,
        max_epochs=-1,
        min_epochs=0,
        min_steps=0,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        log_every_n_steps=0,
    )
    with on_trial(trainer, module, datamodule):
        twin.fit(module, datamodule=datamodule, **fit)
    finder.results = trainer.fabric.broadcast(finder.results)


class _Recorder(Callback):
    """Raises the learning rate from step to step and keeps the losses."""

    def __init__(self, finder: LRFinder, threshold: float | None) -> None:
        self._finder = finder
        self._threshold = threshold
        self._mean = 0.0
        self._best = math.inf
        self._set_for = -1

    def on_fit_start(self, trainer: "Trainer", module: "Module") -> None:
        """Take over the learning rate."""
        if len(trainer.optimizers) != 1:
            count = len(trainer.optimizers)
            reason = f"there are {count} of them, and a range test moves one learning rate"
            raise ConfigError("configure_optimizers()", f"{count} optimizers", reason, "Tune each on its own")
        trainer.lr_scheduler_configs.clear()

    def on_train_batch_start(self, trainer: "Trainer", module: "Module", batch: Any, batch_idx: int) -> None:
        """Set the learning rate of the coming step."""
        step, finder = trainer.counters.global_step, self._finder
        if step != self._set_for:
            self._set_for = step
            rate = rate_at(step, finder.lr_min, finder.lr_max, finder.num_training, finder.mode)
            finder.results["lr"].append(rate)
            for group in trainer.optimizers[0].param_groups:
                group["lr"] = rate

    def on_train_batch_end(
        self, trainer: "Trainer", module: "Module", outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss; stop when it explodes."""
        losses, step = self._finder.results["loss"], trainer.counters.global_step
        if step <= len(losses):
            return  # within a window of accumulated batches
        loss: Any = outputs
        if isinstance(outputs, Mapping):
            loss = cast("Mapping[str, Any]", outputs).get("loss")
        if not isinstance(loss, torch.Tensor):
            losses.append(math.nan)
            return
        self._mean = _SMOOTHING * self._mean + (1 - _SMOOTHING) * float(loss)
        smooth = self._mean / (1 - _SMOOTHING**step)
        losses.append(smooth)
        exploded = self._threshold is not None and step > 1 and smooth > self._threshold * self._best
        if trainer.world_size > 1:
            exploded = trainer.fabric.broadcast(exploded)
        trainer.should_stop = trainer.should_stop or exploded
        self._best = min(self._best, smooth)
