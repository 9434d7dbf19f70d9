"""Every moment at which a `Module` may do something, with nothing done."""

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer


class ModuleHooks(nn.Module):
    """The hooks of a `Module`: override what you need, `Callback` says when each runs.

    Hooks that stay as they are here are never called.
    """

    def on_fit_start(self) -> None:
        """See `Callback.on_fit_start`."""

    def on_fit_end(self) -> None:
        """See `Callback.on_fit_end`."""

    def on_train_start(self) -> None:
        """See `Callback.on_train_start`."""

    def on_train_end(self) -> None:
        """See `Callback.on_train_end`."""

    def on_train_epoch_start(self) -> None:
        """See `Callback.on_train_epoch_start`."""

    def on_train_epoch_end(self) -> None:
        """See `Callback.on_train_epoch_end`."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        """Before a training step; -1 skips the rest of the epoch."""

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """See `Callback.on_train_batch_end`."""

    def on_before_zero_grad(self, optimizer: Optimizer) -> None:
        """See `Callback.on_before_zero_grad`."""

    def on_before_backward(self, loss: torch.Tensor) -> None:
        """See `Callback.on_before_backward`."""

    def on_after_backward(self) -> None:
        """See `Callback.on_after_backward`."""

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """See `Callback.on_before_optimizer_step`."""

    def on_validation_model_zero_grad(self) -> None:
        """Before a validation in training: gradients are cleared, to save memory."""
        self.zero_grad()

    def on_validation_model_eval(self) -> None:
        """Switch to evaluation; by default `self.eval()`."""
        self.eval()

    def on_validation_model_train(self) -> None:
        """Switch back; every submodule gets the mode it had unless you bring this hook."""
        self.train()

    def on_test_model_eval(self) -> None:
        """Switch to evaluation; by default `self.eval()`."""
        self.eval()

    def on_test_model_train(self) -> None:
        """Switch back; see `on_validation_model_train`."""
        self.train()

    def on_predict_model_eval(self) -> None:
        """Switch to evaluation; by default `self.eval()`."""
        self.eval()

    def on_predict_model_train(self) -> None:
        """Switch back; see `on_validation_model_train`."""
        self.train()

    def on_validation_start(self) -> None:
        """See `Callback.on_validation_start`."""

    def on_validation_end(self) -> None:
        """See `Callback.on_validation_end`."""

    def on_validation_epoch_start(self) -> None:
        """See `Callback.on_validation_epoch_start`."""

    def on_validation_epoch_end(self) -> None:
        """See `Callback.on_validation_epoch_end`."""

    def on_validation_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """See `Callback.on_validation_batch_start`."""

    def on_validation_batch_end(
        self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """See `Callback.on_validation_batch_end`."""

    def on_test_start(self) -> None:
        """See `Callback.on_test_start`."""

    def on_test_end(self) -> None:
        """See `Callback.on_test_end`."""

    def on_test_epoch_start(self) -> None:
        """See `Callback.on_test_epoch_start`."""

    def on_test_epoch_end(self) -> None:
        """See `Callback.on_test_epoch_end`."""

    def on_test_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """See `Callback.on_test_batch_start`."""

    def on_test_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """See `Callback.on_test_batch_end`."""

    def on_predict_start(self) -> None:
        """See `Callback.on_predict_start`."""

    def on_predict_end(self) -> None:
        """See `Callback.on_predict_end`."""

    def on_predict_epoch_start(self) -> None:
        """See `Callback.on_predict_epoch_start`."""

    def on_predict_epoch_end(self) -> None:
        """See `Callback.on_predict_epoch_end`."""

    def on_predict_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """See `Callback.on_predict_batch_start`."""

    def on_predict_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """See `Callback.on_predict_batch_end`."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Change the checkpoint before it is written."""

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See or change the checkpoint before anything of it is restored."""
