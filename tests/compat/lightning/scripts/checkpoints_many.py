"""Checkpoints by a metric, with every kind of name; what is kept, and what is linked."""

import json
import os

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel

VALUES = [0.5, 0.3, 0.4, 0.2, 0.6]


class Model(BoringModel):
    def on_validation_epoch_end(self):
        if not self.trainer.sanity_checking:
            self.log("val/acc", torch.tensor(VALUES[self.current_epoch]))
            self.log("m", VALUES[self.current_epoch])


def run(name, **options):
    callback = ModelCheckpoint(dirpath=name, **options)
    trainer = pl.Trainer(
        max_epochs=5,
        accelerator="cpu",
        logger=False,
        callbacks=[callback],
        limit_train_batches=2,
        limit_val_batches=1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Model())
    here = os.getcwd() + "/"
    score = callback.best_model_score
    print(
        json.dumps(
            [
                name,
                sorted(os.listdir(name)) if os.path.isdir(name) else None,
                callback.best_model_path.replace(here, ""),
                callback.last_model_path.replace(here, ""),
                None if score is None else round(float(score), 6),
                sorted(k.replace(here, "") for k in callback.best_k_models),
                callback.kth_best_model_path.replace(here, ""),
                callback.state_key,
            ]
        )
    )


run("top1", monitor="m")
run("top2max", monitor="m", save_top_k=2, mode="max")
run("all", save_top_k=-1)
run("last", save_last=True)
run("link", save_last="link", monitor="m")
run("none", save_top_k=0)
run("names", monitor="m", filename="{epoch:02d}-{val/acc:.2f}-{step}", save_top_k=2)
run("plain", monitor="m", filename="e{epoch}-m{m:.3f}", auto_insert_metric_name=False)
run("steps", every_n_train_steps=3, save_top_k=-1)
run("epochs", every_n_epochs=2, save_top_k=-1)
run("train_end", save_on_train_epoch_end=True, monitor="m", save_top_k=1)
run("weights", save_weights_only=True)
