"""Tell handwritten-looking digits apart with the Trainer.

    python examples/train/digits.py [--devices 2] [--epochs 5]

The digits are drawn here: a seven-segment display under noise, shifted and partly erased, so nothing is
downloaded. Interrupt it with Ctrl-C and start it again: it goes on where it was.
"""

import argparse
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from blixt.trainer import (
    CSVLogger,
    DataModule,
    EarlyStopping,
    ModelCheckpoint,
    Module,
    Trainer,
    seed_everything,
)

SEGMENTS = ["abcdef", "bc", "abged", "abgcd", "fgbc", "afgcd", "afgedc", "abc", "abcdefg", "abcdfg"]
STROKES = {
    "a": (slice(0, 1), slice(1, 5)),
    "b": (slice(1, 4), slice(5, 6)),
    "c": (slice(5, 8), slice(5, 6)),
    "d": (slice(8, 9), slice(1, 5)),
    "e": (slice(5, 8), slice(0, 1)),
    "f": (slice(1, 4), slice(0, 1)),
    "g": (slice(4, 5), slice(1, 5)),
}


def draw_digits(count: int, seed: int) -> TensorDataset:
    """Noisy 12 x 10 images and their digits."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 10, (count,), generator=generator)
    images = torch.zeros(count, 12, 10)
    shifts = torch.randint(0, 3, (count, 2), generator=generator)
    for image, label, (dy, dx) in zip(images, labels, shifts, strict=True):
        for stroke in SEGMENTS[int(label)]:
            rows, columns = STROKES[stroke]
            image[dy : dy + 9, dx : dx + 6][rows, columns] = 1.0
    kept = torch.rand(images.shape, generator=generator) > 0.1
    return TensorDataset(images * kept + 0.25 * torch.randn(images.shape, generator=generator), labels)


class Digits(DataModule):
    def setup(self, stage: str) -> None:
        self.train, self.val = draw_digits(4096, seed=0), draw_digits(1024, seed=1)

    def train_dataloader(self) -> Any:
        return DataLoader(self.train, 64, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self.val, 256)


class Classifier(Module):
    def __init__(self, width: int = 128, learning_rate: float = 5e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(120, width), nn.ReLU(), nn.Linear(width, 10))

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
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--out", default="runs/digits")
    options = parser.parse_args()
    seed_everything(0)
    best = ModelCheckpoint(monitor="accuracy", mode="max", save_last=True)
    trainer = Trainer(
        devices=options.devices,
        max_epochs=options.epochs,
        callbacks=[best, EarlyStopping("accuracy", mode="max", patience=3)],
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
