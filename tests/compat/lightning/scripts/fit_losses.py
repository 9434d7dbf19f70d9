"""Losses of a plain fit, and the weights at the end."""

import json

import lightning as L
import torch
from torch.utils.data import DataLoader, TensorDataset


class Regression(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        self.losses = []

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = torch.nn.functional.mse_loss(self.net(x), y)
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


L.seed_everything(7)
x = torch.randn(40, 4)
data = TensorDataset(x, x.sum(1, keepdim=True))
model = Regression()
trainer = L.Trainer(
    max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
)
trainer.fit(model, DataLoader(data, batch_size=8))
print(json.dumps(["losses", model.losses]))
print(json.dumps(["weights", [p.tolist() for p in model.parameters()]]))
print(json.dumps(["counters", trainer.global_step, trainer.current_epoch, trainer.is_last_batch]))
print(json.dumps(["batches", trainer.num_training_batches, trainer.estimated_stepping_batches]))
print(json.dumps(["state", trainer.state.fn, trainer.state.status, trainer.state.finished]))
