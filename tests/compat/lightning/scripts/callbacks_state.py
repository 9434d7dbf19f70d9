"""Callbacks: order, state in the checkpoint, state keys, configure_callbacks."""

import json

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, LambdaCallback, ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel


class Counts(Callback):
    def __init__(self, name):
        self.name, self.n = name, 0

    @property
    def state_key(self):
        return self._generate_state_key(name=self.name)

    def on_train_batch_end(self, *_):
        self.n += 1

    def state_dict(self):
        return {"n": self.n}

    def load_state_dict(self, state):
        self.n = state["n"]


class Adds(Callback):
    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        checkpoint["added"] = trainer.global_step

    def on_load_checkpoint(self, trainer, pl_module, checkpoint):
        print(json.dumps(["found", checkpoint["added"]]))


class Model(BoringModel):
    def configure_callbacks(self):
        return [EarlyStopping("x", check_on_train_epoch_end=False)]

    def validation_step(self, batch, batch_idx):
        self.log("x", 1.0)


options = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "limit_train_batches": 3,
    "limit_val_batches": 1,
    "default_root_dir": ".",
}
said = []
first = [
    Counts("a"),
    ModelCheckpoint(filename="f"),
    Counts("b"),
    Adds(),
    LambdaCallback(
        on_train_start=lambda trainer, module: said.append("start"),
        setup=lambda trainer, module, stage: said.append(stage),
    ),
]
trainer = pl.Trainer(max_epochs=2, callbacks=first, **options)
trainer.fit(Model())
print(json.dumps(["order", [type(c).__name__ for c in trainer.callbacks], said]))
content = torch.load(trainer.checkpoint_callback.best_model_path, weights_only=False)
print(json.dumps(["keys", sorted(content["callbacks"]), content["added"]]))
print(json.dumps(["state", [content["callbacks"][c.state_key] for c in (first[0], first[2])]]))
second = [Counts("b"), Counts("a"), Adds()]
trainer = pl.Trainer(max_epochs=3, callbacks=second, **options)
trainer.fit(Model(), ckpt_path=trainer.default_root_dir + "/checkpoints/f.ckpt")
print(json.dumps(["counts", [c.n for c in second[:2]]]))
print(json.dumps(["early", len(trainer.early_stopping_callbacks), trainer.early_stopping_callback.patience]))
