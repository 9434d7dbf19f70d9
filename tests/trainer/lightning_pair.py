"""The same small model and data for Lightning and for blixt, without randomness in the loop."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

BATCHES = 6  # an epoch
EPOCHS = 2


def make_data(rows: int) -> TensorDataset:
    x = torch.randn(rows, 4, generator=torch.Generator().manual_seed(1))
    return TensorDataset(x, (x.sum(1) > 0).long())


def make_loader(rows: int = 2 * BATCHES, **options: Any) -> DataLoader[Any]:
    return DataLoader(make_data(rows), 2, **options)


def make_stateful() -> Any:
    """A loader whose position Lightning keeps as well."""
    from torchdata.stateful_dataloader import StatefulDataLoader

    return StatefulDataLoader(make_data(2 * BATCHES), 2)


def model_of(base: type, schedule: str = "epoch", hidden: int = 5) -> Any:
    """A module of `base` (Lightning's or ours) with momentum, a schedule and a state of its own."""

    class Model(base):  # type: ignore[misc]
        def __init__(self, hidden: int = hidden, rate: float = 0.05) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, 2))
            self.automatic_optimization = schedule != "two by hand"

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
            self.log("loss", loss)
            if not self.automatic_optimization:
                self.manual_backward(loss)
                for optimizer in self.optimizers():
                    optimizer.step()
                    optimizer.zero_grad()
            return loss

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

        def configure_optimizers(self) -> Any:
            if schedule == "two by hand":
                return [torch.optim.Adam(self.net[part].parameters(), lr=0.01) for part in (0, 2)]
            optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams.rate, momentum=0.9)
            if schedule == "plateau":
                plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
                return {"optimizer": optimizer, "lr_scheduler": plateau, "monitor": "val"}
            step = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.7)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": step, "interval": schedule}}

    torch.manual_seed(0)
    return Model()


def options(folder: Path, **more: Any) -> dict[str, Any]:
    """Arguments that both trainers take, for quiet runs on one CPU."""
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": folder,
        "max_epochs": EPOCHS,
        "num_sanity_val_steps": 0,
    }
    return {**quiet, **more}


def weights(module: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])
