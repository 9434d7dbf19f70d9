"""Modules and data modules for command lines."""

from typing import Any

import torch
from tests.trainer.samples import make_data
from torch import nn
from torch.utils.data import DataLoader

from blixt.trainer import Callback, DataModule, Module
from blixt.trainer.cli import LRSchedulerCallable, OptimizerCallable


class Activation(nn.Module):
    """A part that is injected."""

    def __init__(self, slope: float = 0.1) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.leaky_relu(x, self.slope)


class Net(Module):
    """A small classifier.

    Args:
        width: Of the hidden layer.
        activation: Between the layers.
        classes: Of the output.
    """

    def __init__(self, width: int = 16, activation: nn.Module | None = None, classes: int = 2) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.activation = activation or nn.ReLU()
        self.net = nn.Sequential(nn.Linear(8, width), self.activation, nn.Linear(width, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test_loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))

    def predict_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self(batch[0])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class DeepNet(Net):
    """The same with another default."""

    def __init__(self, width: int = 4, depth: int = 2) -> None:
        super().__init__(width)
        self.depth = depth


class Injected(Net):
    """Gets functions that make its optimizer and scheduler."""

    def __init__(
        self,
        optimizer: OptimizerCallable = lambda parameters: torch.optim.SGD(parameters, lr=0.5),
        scheduler: LRSchedulerCallable = lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 3),
    ) -> None:
        super().__init__()
        self.make_optimizer, self.make_scheduler = optimizer, scheduler

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.parameters())
        return [optimizer], [self.make_scheduler(optimizer)]


class Linked(Net):
    """Gets what its optimizers are made of."""

    def __init__(self, first: dict[str, Any], second: dict[str, Any]) -> None:
        super().__init__()
        self.first, self.second = first, second


class Data(DataModule):
    """Forty rows.

    Args:
        batch_size: Rows of a batch.
    """

    num_classes = 2

    def __init__(self, batch_size: int = 4) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.batch_size = batch_size

    def train_dataloader(self) -> Any:
        return DataLoader(make_data(40), self.batch_size)

    def val_dataloader(self) -> Any:
        return DataLoader(make_data(8), self.batch_size)

    test_dataloader = predict_dataloader = val_dataloader


class Notes(Callback):
    """A callback with an argument."""

    def __init__(self, text: str = "none") -> None:
        self.text = text
