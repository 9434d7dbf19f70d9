"""Early stopping: when, and why."""

import json

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.demos.boring_classes import BoringModel

VALUES = [1.0, 0.8, 0.85, 0.79, 0.9, 0.91, 0.95, 0.99]


class Model(BoringModel):
    def on_validation_epoch_end(self):
        if not self.trainer.sanity_checking:
            self.log("m", torch.tensor(VALUES[self.current_epoch]))


for kind in (
    {"patience": 1},
    {"patience": 2},
    {"patience": 2, "min_delta": 0.05},
    {"patience": 5, "stopping_threshold": 0.8},
    {"patience": 5, "divergence_threshold": 0.84},
    {"mode": "max", "patience": 2},
):
    stop = EarlyStopping(monitor="m", **kind)
    trainer = pl.Trainer(
        max_epochs=8,
        accelerator="cpu",
        logger=False,
        callbacks=[stop],
        limit_train_batches=1,
        limit_val_batches=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Model())
    print(
        json.dumps([kind, stop.stopped_epoch, stop.wait_count, float(stop.best_score), trainer.current_epoch])
    )
    print(json.dumps([sorted(stop.state_dict()), trainer.should_stop]))
