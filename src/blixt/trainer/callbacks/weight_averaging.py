"""Validate and save with an average of the weights, and train on with the weights themselves."""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.optim.swa_utils import get_ema_avg_fn

from blixt.fabric import ConfigError
from blixt.trainer.callback import Callback

if TYPE_CHECKING:
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer

AverageFn = Callable[[torch.Tensor, torch.Tensor, Any], torch.Tensor]
"""New average from the average, the weight and how many were averaged so far."""
MultiAverageFn = Callable[[list[torch.Tensor], list[torch.Tensor], Any], None]
"""The same for lists, in place."""


class WeightAveraging(Callback):
    """Keeps a running mean of the weights, or whatever `avg_fn` makes of them.

    Validation runs with the average. A checkpoint holds the average as its `state_dict`, so that everybody
    who loads it gets that, and the weights that training goes on with as `current_model_state`. When training
    ends the module gets the average. Sharded weights are averaged shard by shard.

    Args:
        device: Where the average is kept; default beside the weights.
        use_buffers: Average floating-point buffers as well; else take over the newest.
        avg_fn: Gives the new average; default the mean of all.
        multi_avg_fn: The same for all weights at once, in place.
    """

    def __init__(
        self,
        device: torch.device | str | int | None = None,
        use_buffers: bool = True,
        avg_fn: AverageFn | None = None,
        multi_avg_fn: MultiAverageFn | None = None,
    ) -> None:
        if avg_fn is not None and multi_avg_fn is not None:
            reason = "avg_fn is given as well"
            raise ConfigError(
                f"{type(self).__name__}(multi_avg_fn)", multi_avg_fn, reason, "Give one of them"
            )
        self._device = None if device is None else torch.device(device)
        self._use_buffers = use_buffers
        self._avg_fn = avg_fn
        self._multi_avg_fn = multi_avg_fn
        self._average: list[torch.Tensor] | None = None
        self._count = 0
        self._swapped = False
        self._latest_update_step = 0
        self._latest_update_epoch = -1

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Whether to average now; override it to choose.

        Args:
            step_idx: Index of the optimizer step that was made, from 0; None at the end of an epoch.
            epoch_idx: Index of the epoch that ended, from 0; None after a step.
        """
        return step_idx is not None

    # --- state ------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """When the last update was."""
        return {
            "latest_update_step": self._latest_update_step,
            "latest_update_epoch": self._latest_update_epoch,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._latest_update_step = state_dict["latest_update_step"]
        self._latest_update_epoch = state_dict.get("latest_update_epoch", -1)

    def on_save_checkpoint(self, trainer: "Trainer", module: "Module", checkpoint: dict[str, Any]) -> None:
        """Put the average where everybody looks for weights."""
        if self._average is None:
            return
        in_module = _kept(checkpoint["state_dict"])
        with _Swap(self, module):
            kept_here = _kept(trainer.fabric.strategy.module_state(module))
        # A signal within a validation leaves the average in the module.
        current, average = (kept_here, in_module) if self._swapped else (in_module, kept_here)
        checkpoint["current_model_state"], checkpoint["state_dict"] = current, average
        checkpoint["averaging_state"] = {"n_averaged": torch.tensor(self._count)}

    def on_load_checkpoint(self, trainer: "Trainer", module: "Module", checkpoint: dict[str, Any]) -> None:
        """Take the average from the weights that were loaded, and training's weights from beside them."""
        if trainer.stage != "fit":
            return
        self._average = self._copies(module)
        self._count = 0
        if "current_model_state" in checkpoint:
            self._count = int(checkpoint["averaging_state"]["n_averaged"])
            trainer.fabric.strategy.load_module_state(module, checkpoint["current_model_state"], strict=True)

    # --- training ---------------------------------------------------------------------------------

    def setup(self, trainer: "Trainer", module: "Module", stage: str) -> None:
        """Forget the average of another run."""
        if stage == "fit":
            self._average, self._count, self._swapped = None, 0, False
            self._latest_update_step, self._latest_update_epoch = 0, -1

    def on_fit_start(self, trainer: "Trainer", module: "Module") -> None:
        """Begin with the weights as they are."""
        if self._average is None:
            self._average = self._copies(module)

    def on_train_batch_end(
        self, trainer: "Trainer", module: "Module", outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update after an optimizer step, if `should_update` says so."""
        step = trainer.global_step
        if step > self._latest_update_step and self.should_update(step_idx=step - 1):
            self._update(module)
            self._latest_update_step = step

    def on_train_epoch_end(self, trainer: "Trainer", module: "Module") -> None:
        """Update after an epoch, if `should_update` says so."""
        epoch = trainer.current_epoch
        if epoch > self._latest_update_epoch and self.should_update(epoch_idx=epoch):
            self._update(module)
            self._latest_update_epoch = epoch

    def on_validation_epoch_start(self, trainer: "Trainer", module: "Module") -> None:
        """Validate the average."""
        if trainer.stage == "fit":
            self._swap(module)

    def on_validation_epoch_end(self, trainer: "Trainer", module: "Module") -> None:
        """Train on with the weights."""
        if self._swapped:
            self._swap(module)

    def on_exception(self, trainer: "Trainer", module: "Module", exception: BaseException) -> None:
        """A validation that failed leaves the weights to the module."""
        if self._swapped:
            self._swap(module)

    @torch.no_grad()
    def on_train_end(self, trainer: "Trainer", module: "Module") -> None:
        """The average is the result."""
        if self._average is not None and not self._swapped:
            for current, average in zip(_tensors(module), self._average, strict=True):
                current.data.copy_(average)

    # --- averages ---------------------------------------------------------------------------------

    @torch.no_grad()
    def _copies(self, module: "Module") -> list[torch.Tensor]:
        copies = [tensor.detach().clone() for tensor in _tensors(module)]
        return copies if self._device is None else [copy.to(self._device) for copy in copies]

    @torch.no_grad()
    def _update(self, module: "Module") -> None:
        assert self._average is not None
        weights = len(list(module.parameters()))
        averages: list[torch.Tensor] = []
        values: list[torch.Tensor] = []
        for index, (average, tensor) in enumerate(zip(self._average, _tensors(module), strict=True)):
            is_averaged = tensor.is_floating_point() and (self._use_buffers or index < weights)
            if self._count == 0 or not is_averaged:
                average.copy_(tensor)
            else:
                averages.append(average)
                values.append(tensor.detach().to(average.device))
        if averages:
            self._blend(averages, values)
        self._count += 1

    def _blend(self, averages: list[torch.Tensor], values: list[torch.Tensor]) -> None:
        if self._multi_avg_fn is not None:
            self._multi_avg_fn(averages, values, self._count)
        elif self._avg_fn is not None:
            for average, value in zip(averages, values, strict=True):
                average.copy_(self._avg_fn(average, value, self._count))
        else:
            for average, value in zip(averages, values, strict=True):
                average.lerp_(value, 1.0 / (self._count + 1))

    @torch.no_grad()
    def _swap(self, module: "Module") -> None:
        if self._average is None:
            return
        for average, current in zip(self._average, _tensors(module), strict=True):
            kept = average.clone()
            average.copy_(current)
            current.data.copy_(kept)
        self._swapped = not self._swapped


class EMAWeightAveraging(WeightAveraging):
    """Keeps an exponential moving average of the weights.

    Args:
        device: Where the average is kept; default beside the weights.
        use_buffers: Average floating-point buffers as well; else take over the newest.
        decay: Share of the old average in the new one.
        update_every_n_steps: Optimizer steps between updates; 0 for none by steps.
        update_starting_at_step: Index of the first step, from 0, after which it is updated.
        update_starting_at_epoch: Index of the first epoch, from 0, at whose end it is updated; default never.
    """

    def __init__(
        self,
        device: torch.device | str | int | None = None,
        use_buffers: bool = True,
        decay: float = 0.999,
        update_every_n_steps: int = 1,
        update_starting_at_step: int | None = None,
        update_starting_at_epoch: int | None = None,
    ) -> None:
        if not 0.0 <= decay <= 1.0:
            raise ConfigError("EMAWeightAveraging(decay)", decay, "it is a share", "Use e.g. 0.999")
        super().__init__(device, use_buffers, avg_fn=cast("AverageFn", get_ema_avg_fn(decay)))
        self.update_every_n_steps = update_every_n_steps
        self.update_starting_at_step = update_starting_at_step
        self.update_starting_at_epoch = update_starting_at_epoch

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Every so many steps, from the first one on; and at the end of epochs where asked for."""
        if step_idx is not None:
            started = self.update_starting_at_step is None or step_idx >= self.update_starting_at_step
            return started and self.update_every_n_steps > 0 and step_idx % self.update_every_n_steps == 0
        first = self.update_starting_at_epoch
        return epoch_idx is not None and first is not None and epoch_idx >= first


class _Swap:
    """While inside, the module holds the average."""

    def __init__(self, owner: WeightAveraging, module: "Module") -> None:
        self._toggle = lambda: owner._swap(module)  # pyright: ignore[reportPrivateUsage]

    def __enter__(self) -> None:
        self._toggle()

    def __exit__(self, *_: object) -> None:
        self._toggle()


def _tensors(module: "Module") -> Iterator[torch.Tensor]:
    return chain(module.parameters(), module.buffers())


def _kept(state: dict[str, Any]) -> dict[str, Any]:
    """The state with tensors of its own, which a swap does not reach."""
    return {k: v.detach().clone() if isinstance(v, torch.Tensor) else v for k, v in state.items()}
