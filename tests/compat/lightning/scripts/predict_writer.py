"""Predictions, and callbacks that write them by batch and by epoch."""

import json

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.demos.boring_classes import BoringModel
from torch.utils.data import DataLoader

calls = []


class Writer(BasePredictionWriter):
    def write_on_batch_end(
        self, trainer, pl_module, prediction, batch_indices, batch, batch_idx, dataloader_idx
    ):
        calls.append(["batch", prediction.tolist(), batch_indices, batch_idx, dataloader_idx])

    def write_on_epoch_end(self, trainer, pl_module, predictions, batch_indices):
        calls.append(["epoch", [p.tolist() for p in predictions], batch_indices])


class Model(BoringModel):
    def predict_step(self, batch, batch_idx):
        return batch.sum(1)


data = torch.arange(10.0)[:, None]
for interval in ("batch", "epoch", "batch_and_epoch"):
    for keep in (True, False):
        calls.clear()
        trainer = pl.Trainer(
            accelerator="cpu", logger=False, callbacks=[Writer(interval)], enable_progress_bar=False
        )
        result = trainer.predict(Model(), DataLoader(data, batch_size=4), return_predictions=keep)
        print(json.dumps([interval, keep, calls, None if result is None else [r.tolist() for r in result]]))
