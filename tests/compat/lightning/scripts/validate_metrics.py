"""Metrics of training and validation: keys, values, what validate and test return."""

import json

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, TensorDataset


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def _loss(self, batch):
        x, y = batch
        return torch.nn.functional.cross_entropy(self.layer(x), y)

    def training_step(self, batch, batch_idx):
        loss = self._loss(batch)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        self.log("lr", 0.5, on_step=True, on_epoch=False)
        self.log_dict({"a": loss * 2, "b": loss * 3})
        return loss

    def validation_step(self, batch, batch_idx):
        loss = self._loss(batch)
        self.log("val_loss", loss, prog_bar=True)
        self.log("val_max", loss, reduce_fx="max")
        self.log("val_sum", loss, reduce_fx="sum")
        self.log("val_both", loss, on_step=True, on_epoch=True)

    def test_step(self, batch, batch_idx):
        self.log("test_loss", self._loss(batch))
        self.log("one", 1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


pl.seed_everything(1)
x = torch.randn(37, 3)
data = TensorDataset(x, (x[:, 0] > 0).long())
loader = DataLoader(data, batch_size=8)
trainer = pl.Trainer(
    max_epochs=2,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    log_every_n_steps=1,
)
model = Model()
trainer.fit(model, loader, loader)
print(json.dumps(["after fit", {k: float(v) for k, v in sorted(trainer.callback_metrics.items())}]))
print(json.dumps(["bar", sorted(trainer.progress_bar_metrics)]))
print(json.dumps(["logged", {k: float(v) for k, v in sorted(trainer.logged_metrics.items())}]))
print(json.dumps(["validate", trainer.validate(model, loader, verbose=False)]))
print(json.dumps(["test", trainer.test(model, loader, verbose=False)]))
print(json.dumps(["keys", sorted(trainer.callback_metrics)]))
