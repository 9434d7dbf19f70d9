"""A small transformer learns to write Python from the sources of the standard library.

    python examples/train/transformer_lm.py [--steps 2000] [--out runs/transformer_lm]

It reads bytes, so there is nothing to download and no tokenizer. The run logs bits per byte, keeps a moving
average of the weights, goes on where it was when it is started again, and writes a few lines at the end.
Untrained it needs 8 bits per byte, after a hundred steps about 3.3.
"""

import argparse
import math
import sysconfig
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from blixt.trainer import (
    CSVLogger,
    DataModule,
    EMAWeightAveraging,
    LearningRateMonitor,
    ModelCheckpoint,
    Module,
    ThroughputMonitor,
    Trainer,
    seed_everything,
)


class Windows(Dataset[torch.Tensor]):
    """Windows of `length + 1` bytes that overlap by one: inputs, and the same moved on by one as targets."""

    def __init__(self, text: torch.Tensor, length: int) -> None:
        self.text, self.length = text, length

    def __len__(self) -> int:
        return (len(self.text) - 1) // self.length

    def __getitem__(self, index: int) -> torch.Tensor:
        begin = index * self.length
        return self.text[begin : begin + self.length + 1].long()


class StandardLibrary(DataModule):
    """The modules of Python's standard library, the last tenth of the files for validation."""

    def __init__(self, length: int = 128, batch_size: int = 32, files: int = 120) -> None:
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage: str) -> None:
        folder = Path(sysconfig.get_paths()["stdlib"])
        files = sorted(folder.glob("*.py"))[: self.hparams.files]
        texts = [path.read_bytes() for path in files]
        cut = len(texts) - max(1, len(texts) // 10)
        self.train, self.val = (self._windows(b"".join(part)) for part in (texts[:cut], texts[cut:]))

    def _windows(self, text: bytes) -> Windows:
        return Windows(torch.frombuffer(bytearray(text), dtype=torch.uint8), self.hparams.length)

    def train_dataloader(self) -> Any:
        return DataLoader(self.train, self.hparams.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self.val, self.hparams.batch_size)


class Block(nn.Module):
    """Attention to what came before, then a small network, each added to its input."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.queries_keys_values = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.network = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, length, width = x.shape
        parts = self.queries_keys_values(self.norms[0](x)).view(rows, length, 3, self.heads, -1)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        x = x + self.dropout(self.out(attended.transpose(1, 2).reshape(rows, length, width)))
        return x + self.dropout(self.network(self.norms[1](x)))


class LanguageModel(Module):
    """Guesses the next byte.

    Args:
        width: Of the vector of each byte.
        depth: Number of blocks.
        heads: Of attention in each.
        length: Longest text that is looked at.
        dropout: Share of values that are left out in training.
        learning_rate: At its highest, after the first twentieth of the steps.
    """

    def __init__(
        self,
        width: int = 128,
        depth: int = 3,
        heads: int = 4,
        length: int = 128,
        dropout: float = 0.0,
        learning_rate: float = 2e-3,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.bytes = nn.Embedding(256, width)
        self.places = nn.Embedding(length, width)
        self.blocks = nn.Sequential(*[Block(width, heads, dropout) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.guess = nn.Linear(width, 256, bias=False)
        self.guess.weight = self.bytes.weight
        self.apply(_start_small)
        self.example_input_array = torch.zeros(1, length, dtype=torch.long)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        places = torch.arange(text.shape[1], device=text.device)
        return self.guess(self.norm(self.blocks(self.bytes(text) + self.places(places))))

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss = self._loss(batch)
        self.log("bits", loss / math.log(2), prog_bar=True)
        return loss

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val_bits", self._loss(batch) / math.log(2), prog_bar=True, sync_dist=True)

    def _loss(self, batch: torch.Tensor) -> torch.Tensor:
        guesses = self(batch[:, :-1])
        return nn.functional.cross_entropy(guesses.flatten(0, 1), batch[:, 1:].flatten())

    def configure_optimizers(self) -> Any:
        matrices = [p for p in self.parameters() if p.ndim > 1]
        rest = [p for p in self.parameters() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=self.hparams.learning_rate, betas=(0.9, 0.95))
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.hparams.learning_rate, total_steps=max(steps, 2), pct_start=0.05
        )
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    @torch.no_grad()
    def write(self, begin: str, length: int = 200, temperature: float = 0.7) -> str:
        """Go on with a text, byte by byte."""
        text = torch.tensor([list(begin.encode())], device=self.device)
        for _ in range(length):
            guess = self(text[:, -self.hparams.length :])[:, -1] / temperature
            text = torch.cat([text, torch.multinomial(guess.softmax(-1), 1)], dim=1)
        return bytes(text[0].tolist()).decode(errors="replace")


def _start_small(layer: nn.Module) -> None:
    if isinstance(layer, (nn.Linear, nn.Embedding)):
        nn.init.normal_(layer.weight, std=0.02)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--files", type=int, default=120)
    parser.add_argument("--devices", default="auto")
    parser.add_argument("--out", default="runs/transformer_lm")
    options = parser.parse_args()
    seed_everything(0)
    saver = ModelCheckpoint(monitor="val_bits", save_last=True)
    trainer = Trainer(
        devices=options.devices,
        max_steps=options.steps,
        val_check_interval=max(1, options.steps // 4),
        check_val_every_n_epoch=None,
        limit_val_batches=8,
        gradient_clip_val=1.0,
        log_every_n_steps=20,
        logger=CSVLogger(options.out),
        callbacks=[saver, EMAWeightAveraging(decay=0.98), LearningRateMonitor(), ThroughputMonitor()],
        default_root_dir=options.out,
    )
    model = LanguageModel(width=options.width)
    trainer.fit(model, datamodule=StandardLibrary(files=options.files), ckpt_path="auto")
    trainer.print(
        f"{float(trainer.callback_metrics['val_bits']):.2f} bits per byte, best in {saver.best_model_path}"
    )
    if trainer.is_global_zero:
        print(model.eval().write("import "))


if __name__ == "__main__":
    main()
