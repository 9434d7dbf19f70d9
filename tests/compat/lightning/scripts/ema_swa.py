"""Averages of weights: stochastic weight averaging, exponential moving average."""

import json

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging
from lightning.pytorch.demos.boring_classes import BoringModel
from torch.utils.data import DataLoader

data = torch.randn(16, 32, generator=torch.Generator().manual_seed(2))


class Model(BoringModel):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, *_):
        self.seen.append(self.trainer.optimizers[0].param_groups[0]["lr"])

    def on_validation_batch_start(self, *_):
        self.seen.append(self.layer.weight.sum().item())


for callback in (
    StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=2, annealing_epochs=2),
    EMAWeightAveraging(decay=0.9, update_every_n_steps=2),
):
    torch.manual_seed(0)
    model = Model()
    trainer = pl.Trainer(
        max_epochs=5,
        accelerator="cpu",
        logger=False,
        callbacks=[callback],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, DataLoader(data, batch_size=4), DataLoader(data, batch_size=16))
    print(json.dumps([type(callback).__name__, model.seen, model.layer.weight.tolist()]))
