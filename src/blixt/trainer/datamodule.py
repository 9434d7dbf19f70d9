"""Data and how it is prepared, apart from any model."""

from typing import TYPE_CHECKING, Any

import torch

from blixt.fabric import FabricError, to_device
from blixt.trainer.hparams import HyperparametersMixin

if TYPE_CHECKING:
    from blixt.trainer.trainer import Trainer


class DataModule(HyperparametersMixin):
    """Override what you need; each loader may be a `DataLoader` or any iterable of batches."""

    _trainer: "Trainer | None" = None

    @property
    def trainer(self) -> "Trainer":
        """The trainer that uses this data."""
        if self._trainer is None:
            raise FabricError(f"{type(self).__name__} is not attached to a Trainer. Give it to trainer.fit.")
        return self._trainer

    @trainer.setter
    def trainer(self, trainer: "Trainer | None") -> None:
        self._trainer = trainer

    def prepare_data(self) -> None:
        """Download or convert; runs once a machine, before the other processes go on."""

    def setup(self, stage: str) -> None:
        """Make datasets, in every process; `stage` is fit, validate, test or predict."""

    def teardown(self, stage: str) -> None:
        """After everything ran."""

    def train_dataloader(self) -> Any:
        """The loader for `fit`."""
        return None

    def val_dataloader(self) -> Any:
        """One loader or several for validation."""
        return None

    def test_dataloader(self) -> Any:
        """One loader or several for `test`."""
        return None

    def predict_dataloader(self) -> Any:
        """One loader or several for `predict`."""
        return None

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Change a batch before it goes to the device."""
        return batch

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch of your own type to the device."""
        return to_device(batch, device)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Change a batch on the device."""
        return batch

    def on_exception(self, exception: BaseException) -> None:
        """The run ends with an error."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint should keep, as plain values."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
