"""Stop when the loss jumps, and remember which batches did it."""

import json
import os
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch

from blixt.fabric import ConfigError, FabricError
from blixt.trainer.callback import Callback

if TYPE_CHECKING:
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer


class TrainingSpikeException(FabricError, RuntimeError):
    """The loss jumped.

    Attributes:
        batch_idx: In which batch.
    """

    def __init__(self, batch_idx: int) -> None:
        super().__init__(f"The loss jumped in batch {batch_idx}. Resume from before it, without that batch.")
        self.batch_idx = batch_idx

    def __reduce__(self) -> tuple[type["TrainingSpikeException"], tuple[int]]:
        return TrainingSpikeException, (self.batch_idx,)


class SpikeDetection(Callback):
    """Ends the run with a `TrainingSpikeException` when the loss leaves its running mean for the worse.

    The batch and the one before it, which may have spoilt the weights, are added to a JSON list to be left
    out when the run is repeated. It has to know every loss, so each step waits for the device, and with
    several processes for the others.

    Args:
        mode: Whether a small or a large value is good.
        window: How many of the last values the mean is of.
        warmup: Batches of each epoch to let pass first.
        atol: Distance from the mean that is a spike; None for any.
        rtol: The same as a multiple of the mean. With both, both have to be exceeded.
        exclude_batches_path: The file, or a folder for `skip_batches.json`; default `default_root_dir`.
        finite_only: NaN and infinite values are spikes.
    """

    def __init__(
        self,
        mode: Literal["min", "max"] = "min",
        window: int = 10,
        warmup: int = 1,
        atol: float | None = None,
        rtol: float | None = 2.0,
        exclude_batches_path: str | os.PathLike[str] | None = None,
        finite_only: bool = True,
    ) -> None:
        if mode not in ("min", "max"):
            raise ConfigError("SpikeDetection(mode)", mode, "it is unknown", "Use 'min' or 'max'")
        if window < 1:
            raise ConfigError("SpikeDetection(window)", window, "it counts values", "Use e.g. 10")
        self.mode: Literal["min", "max"] = mode
        self.warmup = warmup
        self.atol = atol
        self.rtol = rtol
        self.finite_only = finite_only
        self.exclude_batches_path = None if exclude_batches_path is None else os.fspath(exclude_batches_path)
        self.bad_batches: list[int] = []
        self.last_val = 0.0
        self._window: deque[float] = deque(maxlen=window)

    def state_dict(self) -> dict[str, Any]:
        """The values of the window and the bad batches."""
        return {
            "last_val": self.last_val,
            "window": list(self._window),
            "bad_batches": list(self.bad_batches),
            "bad_batches_path": self.exclude_batches_path,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with them."""
        self.last_val = float(state_dict["last_val"])
        self.bad_batches = list(state_dict["bad_batches"])
        self.exclude_batches_path = state_dict["bad_batches_path"]
        self._window.clear()
        self._window.extend(state_dict.get("window", []))

    def setup(self, trainer: "Trainer", module: "Module", stage: str) -> None:
        """Settle where the list goes."""
        path = Path(self.exclude_batches_path or trainer.default_root_dir)
        self.exclude_batches_path = str(path if path.suffix == ".json" else path / "skip_batches.json")

    def on_train_batch_end(
        self, trainer: "Trainer", module: "Module", outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Judge the loss.

        Raises:
            TrainingSpikeException: On all ranks, when one of them sees a spike.
        """
        loss: Any = outputs
        if isinstance(outputs, Mapping):
            loss = cast("Mapping[str, Any]", outputs).get("loss")
        value = float(loss.detach()) if isinstance(loss, torch.Tensor) else None
        spike = value is not None and batch_idx >= self.warmup and self._is_spike(value)
        if trainer.world_size > 1:
            spike = bool(trainer.fabric.all_reduce(float(spike), "max"))
        if spike:
            self._report(trainer, batch_idx)
        elif value is not None and value - value == 0.0:  # neither NaN nor infinite
            self._window.append(value)
            self.last_val = value

    def _is_spike(self, value: float) -> bool:
        finite = value - value == 0.0
        if not finite:
            return self.finite_only
        better = value <= self.last_val if self.mode == "min" else value >= self.last_val
        if better or not self._window:
            return False
        mean = sum(self._window) / len(self._window)
        distance = abs(value - mean)
        return (self.atol is None or distance >= abs(self.atol)) and (
            self.rtol is None or distance >= abs(self.rtol * mean)
        )

    def _report(self, trainer: "Trainer", batch_idx: int) -> None:
        self.bad_batches += [batch_idx - 1, batch_idx]
        if trainer.is_global_zero and self.exclude_batches_path is not None:
            path = Path(self.exclude_batches_path)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self.bad_batches, indent=4))
        raise TrainingSpikeException(batch_idx)
