"""What brings data: the methods that a `Module` and a `DataModule` share."""

from typing import Any

import torch

from blixt.fabric import ConfigError, to_device


class DataHooks:
    """Override what you need; each loader may be a `DataLoader`, any iterable, or a nest of them.

    Attributes:
        prepare_data_per_node: Run `prepare_data` on each machine; False for once in all, on shared disks.
        allow_zero_length_dataloader_with_multiple_devices: Accept a rank that has no batches.
    """

    prepare_data_per_node: bool = True
    allow_zero_length_dataloader_with_multiple_devices: bool = False

    def prepare_data(self) -> None:
        """Download or convert; runs in one process a machine, before the others go on. Keep no state here."""

    def setup(self, stage: str) -> None:
        """Make datasets or layers, in every process; `stage` is fit, validate, test or predict."""

    def teardown(self, stage: str) -> None:
        """After everything ran."""

    def train_dataloader(self) -> Any:
        """The loader for `fit`, unless one is given there."""
        raise _unwritten(self, "train_dataloader")

    def val_dataloader(self) -> Any:
        """One loader or several for validation."""
        raise _unwritten(self, "val_dataloader")

    def test_dataloader(self) -> Any:
        """One loader or several for `test`."""
        raise _unwritten(self, "test_dataloader")

    def predict_dataloader(self) -> Any:
        """One loader or several for `predict`."""
        raise _unwritten(self, "predict_dataloader")

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Change a batch before it goes to the device."""
        return batch

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch of your own type to the device."""
        return to_device(batch, device)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Change a batch on the device, such as augmentations there."""
        return batch


def _unwritten(owner: object, name: str) -> ConfigError:
    fix = "Write one that returns a loader, or give loaders to the Trainer's method"
    return ConfigError(f"{name}()", type(owner).__name__, "it has no such loader", fix)
