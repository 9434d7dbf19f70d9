"""Precision: types of weights, activations and losses."""

import json

import lightning.pytorch as pl
import torch
from lightning.fabric import Fabric
from lightning.pytorch.demos.boring_classes import BoringModel


class Model(BoringModel):
    def training_step(self, batch, batch_idx):
        out = self.layer(batch)
        self.seen = [str(batch.dtype), str(out.dtype), str(self.layer.weight.dtype), str(self.dtype)]
        return out.float().sum()

    def configure_model(self):
        self.inner = str(torch.ones(1).dtype)


for precision in ("32-true", "bf16-mixed", "bf16-true", "64-true", 32, "bf16", 64):
    model = Model()
    trainer = pl.Trainer(
        precision=precision,
        max_steps=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(model)
    print(
        json.dumps(
            [precision, model.seen, model.inner, trainer.precision, type(trainer.precision_plugin).__name__]
        )
    )
    fabric = Fabric(accelerator="cpu", precision=precision)
    net = fabric.setup_module(torch.nn.Linear(2, 2))
    out = net(torch.ones(1, 2))
    with fabric.init_module():
        fresh = torch.nn.Linear(1, 1)
    print(
        json.dumps(
            [
                precision,
                str(out.dtype),
                str(net.weight.dtype),
                str(fresh.weight.dtype),
                str(torch.get_default_dtype()),
            ]
        )
    )
