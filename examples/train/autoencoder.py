"""Squeeze handwritten digits into a few numbers and draw them again.

Shows: hyperparameters that come back from a checkpoint, an epoch metric that a callback watches, prediction,
and an exported program that runs without this file.

    python examples/train/autoencoder.py --epochs 20 --code 8
"""

import argparse
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from blixt.trainer import DataModule, ModelCheckpoint, Module, Trainer, seed_everything


class Digits(DataModule):
    """1,797 images of 8x8 pixels from 0 to 1, as (batch, 64)."""

    def __init__(self, batch_size: int = 64) -> None:
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage: str) -> None:
        images = torch.tensor(load_digits().data, dtype=torch.float32) / 16
        self.train, self.val = random_split(
            TensorDataset(images), [0.8, 0.2], generator=torch.Generator().manual_seed(0)
        )

    def train_dataloader(self) -> Any:
        return DataLoader(self.train, self.hparams.batch_size, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self.val, self.hparams.batch_size)

    predict_dataloader = val_dataloader


class AutoEncoder(Module):
    """64 pixels -> `code` numbers -> 64 pixels."""

    def __init__(self, code: int = 8, width: int = 128, learning_rate: float = 3e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.encoder = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, code))
        self.decoder = nn.Sequential(nn.Linear(code, width), nn.ReLU(), nn.Linear(width, 64), nn.Sigmoid())
        self.example_input_array = torch.zeros(2, 64)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(images))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = nn.functional.mse_loss(self(batch[0]), batch[0])
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", nn.functional.mse_loss(self(batch[0]), batch[0]), prog_bar=True)

    def predict_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.encoder(batch[0])

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=self.hparams.learning_rate)


def drawn(image: torch.Tensor) -> list[str]:
    """An image as eight lines of text."""
    shades = " .:+*#"
    return ["".join(shades[min(5, int(6 * pixel))] for pixel in row) for row in image.reshape(8, 8).tolist()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--code", type=int, default=8, help="numbers that an image is squeezed into")
    arguments = parser.parse_args()
    seed_everything(1)

    data = Digits()
    best = ModelCheckpoint(monitor="val_loss")
    trainer = Trainer(max_epochs=arguments.epochs, callbacks=best, default_root_dir="runs/autoencoder")
    trainer.fit(AutoEncoder(code=arguments.code), datamodule=data)

    model = AutoEncoder.load_from_checkpoint(best.best_model_path).freeze()
    images = data.val[:][0]
    mean = data.train[:][0].mean(0)
    error = float(nn.functional.mse_loss(model(images), images))
    baseline = float(nn.functional.mse_loss(mean.expand_as(images), images))
    for row in zip(drawn(images[0]), drawn(model(images[:1])[0]), strict=True):
        print("   ".join(row))
    print(f"error {error:.4f} with {model.hparams.code} numbers an image; the mean image has {baseline:.4f}")

    codes = torch.cat(trainer.predict(model, datamodule=data))
    model.to_torch_export("runs/autoencoder/model.pt2")
    print(f"{len(codes)} codes of {codes.shape[1]} numbers; the program is in runs/autoencoder/model.pt2")


if __name__ == "__main__":
    main()
