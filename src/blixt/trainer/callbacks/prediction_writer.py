"""Base for callbacks that write predictions to disk instead of keeping them in memory."""

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from blixt.fabric import ConfigError
from blixt.trainer.callback import Callback

if TYPE_CHECKING:
    from blixt.trainer.module import Module
    from blixt.trainer.trainer import Trainer


class WriteInterval(StrEnum):
    """When a `BasePredictionWriter` writes."""

    BATCH = "batch"
    EPOCH = "epoch"
    BATCH_AND_EPOCH = "batch_and_epoch"

    @property
    def on_batch(self) -> bool:
        """Whether each batch is written."""
        return self is not WriteInterval.EPOCH

    @property
    def on_epoch(self) -> bool:
        """Whether everything is written at the end."""
        return self is not WriteInterval.BATCH


class BasePredictionWriter(Callback):
    """Override `write_on_batch_end`, `write_on_epoch_end` or both.

    Use it with `trainer.predict(..., return_predictions=False)`.

    Args:
        write_interval: "batch", "epoch" or "batch_and_epoch".
    """

    def __init__(self, write_interval: Literal["batch", "epoch", "batch_and_epoch"] = "batch") -> None:
        if write_interval not in [interval.value for interval in WriteInterval]:
            raise ConfigError(
                "BasePredictionWriter(write_interval)",
                write_interval,
                "it is unknown",
                "Use 'batch', 'epoch' or 'batch_and_epoch'",
            )
        self.interval = WriteInterval(write_interval)
        self._predictions: list[list[Any]] = []

    def write_on_batch_end(
        self,
        trainer: "Trainer",
        pl_module: "Module",
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write one batch.

        Args:
            trainer: That predicts.
            pl_module: With which it does.
            prediction: What `predict_step` returned.
            batch_indices: Which rows of the dataset the batch holds; None when nobody knows.
            batch: The input.
            batch_idx: Its number.
            dataloader_idx: Of which loader.
        """

    def write_on_epoch_end(
        self,
        trainer: "Trainer",
        pl_module: "Module",
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        """Write everything.

        Args:
            trainer: That predicted.
            pl_module: With which it did.
            predictions: What `predict_step` returned; one list a loader if there are several.
            batch_indices: One list a loader, with the rows of each batch.
        """

    def setup(self, trainer: "Trainer", module: "Module", stage: str) -> None:
        """Ask the prediction loop to remember which rows a batch holds."""
        self._predictions = []
        if stage == "predict":
            trainer.predict_loop.keep_indices = True

    def on_predict_batch_end(
        self,
        trainer: "Trainer",
        module: "Module",
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the batch, or keep it for the end."""
        if self.interval.on_epoch:
            while len(self._predictions) <= dataloader_idx:
                self._predictions.append([])
            self._predictions[dataloader_idx].append(outputs)
        if self.interval.on_batch:
            indices = trainer.predict_loop.current_batch_indices
            self.write_on_batch_end(trainer, module, outputs, indices, batch, batch_idx, dataloader_idx)

    def on_predict_epoch_end(self, trainer: "Trainer", module: "Module") -> None:
        """Write everything, if that was asked for."""
        if self.interval.on_epoch:
            kept, indices = self._predictions, trainer.predict_loop.epoch_batch_indices
            self.write_on_epoch_end(trainer, module, kept[0] if len(kept) == 1 else kept, indices)
            self._predictions = []
