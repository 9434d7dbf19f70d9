"""Several loaders in every stage: names of metrics, batches, order."""

import json

import lightning.pytorch as pl
import torch
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.utilities import CombinedLoader
from torch.utils.data import DataLoader


class Numbers(torch.utils.data.Dataset):
    def __init__(self, start, n):
        self.values = torch.arange(start, start + n).float()

    def __getitem__(self, i):
        return self.values[i]

    def __len__(self):
        return len(self.values)


def loader(start, n, size=2):
    return DataLoader(Numbers(start, n), batch_size=size)


class Model(BoringModel):
    def __init__(self):
        super().__init__()
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append(json.loads(json.dumps(batch, default=lambda t: t.tolist())))
        return self.layer(torch.ones(1, 32)).sum()

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.log("v", batch.mean())
        self.log("w", batch.mean(), add_dataloader_idx=False) if dataloader_idx == 1 else None

    def predict_step(self, batch, batch_idx, dataloader_idx=0):
        return batch.sum().item()


options = {
    "max_epochs": 1,
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
for mode in ("max_size_cycle", "min_size", "max_size"):
    model = Model()
    trainer = pl.Trainer(limit_val_batches=0, **options)
    trainer.fit(model, CombinedLoader({"a": loader(0, 4), "b": loader(100, 6)}, mode))
    print(json.dumps([mode, model.seen, trainer.num_training_batches]))
model = Model()
trainer = pl.Trainer(**options)
trainer.fit(model, [loader(0, 4), loader(10, 2)], [loader(0, 4), loader(100, 6)])
print(json.dumps(["list", model.seen, trainer.num_val_batches]))
print(json.dumps(["fit", {k: float(v) for k, v in sorted(trainer.callback_metrics.items())}]))
print(json.dumps(["validate", trainer.validate(model, [loader(0, 4), loader(100, 6)], verbose=False)]))
print(json.dumps(["predict", trainer.predict(model, [loader(0, 4), loader(100, 6)])]))
print(json.dumps(["predict one", trainer.predict(model, loader(0, 4))]))
