"""Tell handwritten digits apart with the Trainer.

    python examples/train/digits.py [--devices 2] [--epochs 30]

The 1,797 images of 8 x 8 grey values come with scikit-learn (`pip install scikit-learn`), so nothing is
downloaded. Interrupt it with Ctrl-C and start it again: it goes on where it was.
"""

import argparse
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from blixt.trainer import (
    CSVLogger,
    DataModule,
    EarlyStopping,
    ModelCheckpoint,
    Module,
    Trainer,
    seed_everything,
)


class Digits(DataModule):
    def setup(self, stage: str) -> None:
        images, labels = load_digits(return_X_y=True)
        pictures = TensorDataset(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels))
        self.train, self.val = random_split(pictures, [1500, 297], torch.Generator().manual_seed(0))

    def train_dataloader(self) -> Any:
        return DataLoader(self.train, 64, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self.val, 256)


class Classifier(Module):
    def __init__(self, width: int = 128, learning_rate: float = 3e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net(images)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        images, labels = batch
        loss = nn.functional.cross_entropy(self(images), labels)
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        images, labels = batch
        right = (self(images).argmax(1) == labels).float().mean()
        self.log("accuracy", right, prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.hparams.learning_rate)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--devices", default="auto")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--out", default="runs/digits")
    options = parser.parse_args()
    seed_everything(0)
    best = ModelCheckpoint(monitor="accuracy", mode="max", save_last=True)
    trainer = Trainer(
        devices=options.devices,
        max_epochs=options.epochs,
        callbacks=[best, EarlyStopping("accuracy", mode="max", patience=5)],
        logger=CSVLogger(options.out),
        log_every_n_steps=16,
        default_root_dir=options.out,
    )
    trainer.fit(Classifier(), datamodule=Digits(), ckpt_path="auto")
    trainer.print(
        f"accuracy {float(trainer.callback_metrics['accuracy']):.3f}, best in {best.best_model_path}"
    )


if __name__ == "__main__":
    main()
