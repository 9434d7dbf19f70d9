"""Accumulated gradients, clipping by norm and by value, and what the schedulers and counters do."""

import json

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.demos.boring_classes import BoringModel
from torch.utils.data import DataLoader

data = torch.randn(28, 32, generator=torch.Generator().manual_seed(8))


class Model(BoringModel):
    def __init__(self):
        super().__init__()
        self.seen = []

    def training_step(self, batch, batch_idx):
        return self.step(batch) * 10

    def on_before_optimizer_step(self, optimizer):
        norm = torch.cat([p.grad.flatten() for p in self.parameters()]).norm()
        self.seen.append([norm.item(), self.global_step, optimizer.param_groups[0]["lr"]])

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.seen.append([outputs["loss"].item(), batch_idx])

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step", "frequency": 2},
        }


def run(title, **options):
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
        **options,
    )
    trainer.fit(model, DataLoader(data, batch_size=4))
    print(json.dumps([title, model.seen, trainer.global_step, model.layer.weight.sum().item()]))


run("plain")
run("three", accumulate_grad_batches=3)
run("norm", gradient_clip_val=0.5)
run("value", gradient_clip_val=0.01, gradient_clip_algorithm="value")
run("both", accumulate_grad_batches=2, gradient_clip_val=0.5)
run("schedule", callbacks=[GradientAccumulationScheduler({0: 1, 1: 3})])
