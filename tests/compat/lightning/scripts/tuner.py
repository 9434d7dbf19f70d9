"""The learning-rate finder and the batch-size finder."""

import json

import lightning.pytorch as pl
import torch
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.tuner import Tuner
from torch.utils.data import DataLoader

data = torch.randn(64, 32, generator=torch.Generator().manual_seed(2))


class Model(BoringModel):
    def __init__(self, lr=0.1, batch_size=2):
        super().__init__()
        self.save_hyperparameters()
        self.lr, self.batch_size = lr, batch_size

    def train_dataloader(self):
        return DataLoader(data, batch_size=self.batch_size)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)


options = {
    "max_epochs": 1,
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "limit_val_batches": 0,
}
torch.manual_seed(0)
model = Model()
before = model.layer.weight.clone()
finder = Tuner(pl.Trainer(**options)).lr_find(model, num_training=20, min_lr=1e-5, max_lr=1.0)
print(json.dumps(["rates", finder.results["lr"]]))
print(json.dumps(["losses", finder.results["loss"]]))
print(json.dumps(["suggestion", finder.suggestion(), model.lr, torch.equal(before, model.layer.weight)]))
for mode in ("power", "binsearch"):
    model = Model()
    size = Tuner(pl.Trainer(**options)).scale_batch_size(model, mode=mode, max_trials=3, steps_per_trial=1)
    print(json.dumps([mode, size, model.batch_size]))
