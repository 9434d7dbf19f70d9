"""Spike detection for a loop of one's own."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from blixt import trainer
from blixt.fabric import Fabric


class SpikeDetection(trainer.SpikeDetection):
    """blixt's callback, called with a Fabric: `fabric.call("on_train_batch_end", fabric, loss, batch, i)`."""

    def on_train_batch_end(  # pyright: ignore[reportIncompatibleMethodOverride] - Lightning's own signature
        self, fabric: Fabric, loss: torch.Tensor, batch: Any, batch_idx: int
    ) -> None:
        """Judge the loss.

        Raises:
            TrainingSpikeException: On all ranks, when one of them sees a spike.
        """
        path = Path(self.exclude_batches_path or ".")
        self.exclude_batches_path = str(path if path.suffix == ".json" else path / "skip_batches.json")
        as_trainer: Any = SimpleNamespace(
            fabric=fabric, world_size=fabric.world_size, is_global_zero=fabric.is_global_zero
        )
        none: Any = None
        super().on_train_batch_end(as_trainer, none, loss, batch, batch_idx)
