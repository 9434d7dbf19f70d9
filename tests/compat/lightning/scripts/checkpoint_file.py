"""The checkpoint that a default fit writes: its name, its keys and its progress."""

import glob
import json

import lightning.pytorch as pl
import torch
from lightning.pytorch.demos.boring_classes import BoringModel

pl.seed_everything(3)


class Model(BoringModel):
    def __init__(self, width=3, name="x"):
        super().__init__()
        self.save_hyperparameters()


trainer = pl.Trainer(
    max_epochs=2,
    limit_train_batches=3,
    limit_val_batches=2,
    accelerator="cpu",
    logger=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(Model())
files = sorted(glob.glob("**/*.ckpt", recursive=True))
print(json.dumps(["files", files]))
content = torch.load(files[0], weights_only=False)
print(json.dumps(["epoch", content["epoch"], content["global_step"], sorted(content["state_dict"])]))
loops = content["loops"]["fit_loop"]
print(json.dumps(["progress", loops["epoch_progress"]["total"], loops["epoch_progress"]["current"]]))
print(json.dumps(["batches", loops["epoch_loop.batch_progress"]["total"]]))
print(json.dumps(["is_last", loops["epoch_loop.batch_progress"]["is_last_batch"]]))
steps = loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]["total"]
print(json.dumps(["steps", steps, loops["epoch_loop.state_dict"]["_batches_that_stepped"]]))
print(json.dumps(["hparams", content["hyper_parameters"], content["hparams_name"]]))
print(json.dumps(["callbacks", sorted(content["callbacks"])]))
print(json.dumps(["optimizers", len(content["optimizer_states"]), len(content["lr_schedulers"])]))
again = Model.load_from_checkpoint(files[0])
print(json.dumps(["again", dict(again.hparams)]))
