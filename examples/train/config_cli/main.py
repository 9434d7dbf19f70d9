"""A training program whose every setting is on the command line or in a YAML file.

    python examples/train/config_cli/main.py fit --config examples/train/config_cli/digits.yaml
    python examples/train/config_cli/main.py fit --config examples/train/config_cli/digits.yaml \\
        --model.width=64 --optimizer=SGD --optimizer.lr=0.1 --trainer.max_epochs=5
    python examples/train/config_cli/main.py test --config runs/config_cli/version_0/config.yaml \\
        --ckpt_path runs/config_cli/version_0/checkpoints/best.ckpt
    python examples/train/config_cli/main.py fit --help

The 1,797 images of 8 x 8 grey values come with scikit-learn (`pip install scikit-learn`).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from blixt.trainer import CLI, DataModule, Module
from blixt.trainer.cli import ArgumentParser


class Digits(DataModule):
    """Handwritten digits.

    Args:
        batch_size: Images of a batch.
        noise: Standard deviation of what is added to training images.
    """

    pixels = 64

    def __init__(self, batch_size: int = 64, noise: float = 0.0) -> None:
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage: str) -> None:
        images, labels = load_digits(return_X_y=True)
        pictures = TensorDataset(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels))
        parts = random_split(pictures, [1300, 200, 297], torch.Generator().manual_seed(0))
        self.train, self.val, self.held_out = parts

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        images, labels = batch
        if self.trainer.training and self.hparams.noise:
            images = images + self.hparams.noise * torch.randn_like(images)
        return images, labels

    def train_dataloader(self) -> Any:
        return DataLoader(self.train, self.hparams.batch_size, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self.val, 256)

    def test_dataloader(self) -> Any:
        return DataLoader(self.held_out, 256)


class Perceptron(Module):
    """Layers of equal width.

    Args:
        width: Of each hidden layer.
        depth: Number of hidden layers.
        activation: Between layers.
        pixels: Of an image; the data module tells.
    """

    def __init__(
        self, width: int = 128, depth: int = 1, activation: nn.Module | None = None, pixels: int = 64
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        sizes: Sequence[int] = [pixels, *[width] * depth]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), activation if activation is not None else nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.Linear(sizes[-1], 10))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net(images)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("accuracy", self._accuracy(batch), prog_bar=True)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test_accuracy", self._accuracy(batch))

    def _accuracy(self, batch: Any) -> torch.Tensor:
        return (self(batch[0]).argmax(1) == batch[1]).float().mean()


class Program(CLI):
    """What the two classes have to agree on is linked, so nobody has to say it twice."""

    def add_arguments_to_parser(self, parser: ArgumentParser) -> None:
        parser.link_arguments("data.pixels", "model.pixels", apply_on="instantiate")
        parser.add_optimizer_args()
        parser.set_defaults({"optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 3e-3}}})


if __name__ == "__main__":
    Program(Perceptron, Digits, seed_everything_default=0)
