"""Optimizers with closures, an overridden optimizer_step, and skipped batches."""

import json

import lightning.pytorch as pl
import torch
from lightning.pytorch.demos.boring_classes import BoringModel
from torch.utils.data import DataLoader

data = torch.randn(12, 32, generator=torch.Generator().manual_seed(3))
options = {
    "max_epochs": 2,
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "limit_val_batches": 0,
}


class LBFGS(BoringModel):
    calls = 0

    def training_step(self, batch, batch_idx):
        self.calls += 1
        return self.step(batch)

    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)


class WarmUp(BoringModel):
    rates = ()

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (self.trainer.global_step + 1)
        self.rates = (*self.rates, optimizer.param_groups[0]["lr"])
        optimizer.step(closure=optimizer_closure)


class Skips(BoringModel):
    def training_step(self, batch, batch_idx):
        return None if batch_idx == 1 else self.step(batch)


class Minus(BoringModel):
    batches = 0

    def on_train_batch_start(self, batch, batch_idx):
        return -1 if batch_idx == 2 else None

    def on_train_batch_end(self, *_):
        self.batches += 1


class Dicts(BoringModel):
    got = ()

    def training_step(self, batch, batch_idx):
        return {"loss": self.step(batch), "extra": batch_idx}

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.got = (*self.got, sorted(outputs))


for kind in (LBFGS, WarmUp, Skips, Minus, Dicts):
    torch.manual_seed(0)
    model = kind()
    trainer = pl.Trainer(**options)
    trainer.fit(model, DataLoader(data, batch_size=4))
    extra = [getattr(model, name, None) for name in ("calls", "rates", "batches", "got")]
    print(json.dumps([kind.__name__, model.layer.weight.sum().item(), trainer.global_step, extra]))
