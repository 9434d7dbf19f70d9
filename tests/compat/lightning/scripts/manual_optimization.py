"""Manual optimisation: losses, counters and schedulers."""

import json

import lightning.pytorch as pl
import torch
from lightning.pytorch.demos.boring_classes import ManualOptimBoringModel
from torch.utils.data import DataLoader

data = torch.randn(16, 32, generator=torch.Generator().manual_seed(2))


class Model(ManualOptimBoringModel):
    def __init__(self):
        super().__init__()
        self.seen = []

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        loss = self.step(batch)
        optimizer.zero_grad()
        self.manual_backward(loss)
        self.clip_gradients(optimizer, gradient_clip_val=0.5, gradient_clip_algorithm="norm")
        optimizer.step()
        if batch_idx % 2:
            self.lr_schedulers().step()
        self.seen.append([loss.item(), self.global_step, optimizer.param_groups[0]["lr"]])


torch.manual_seed(0)
model = Model()
trainer = pl.Trainer(
    max_epochs=2,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    limit_val_batches=0,
)
trainer.fit(model, DataLoader(data, batch_size=4))
print(json.dumps(["seen", model.seen]))
print(json.dumps(["steps", trainer.global_step, isinstance(model.optimizers(), torch.optim.SGD)]))
