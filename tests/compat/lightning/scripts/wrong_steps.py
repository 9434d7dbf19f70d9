"""What is refused, by the class that a script catches."""

import json

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.utilities.exceptions import MisconfigurationException

options = {
    "max_epochs": 1,
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "limit_train_batches": 2,
    "limit_val_batches": 2,
}


def attempt(title, action, expected):
    try:
        action()
    except expected:
        print(json.dumps([title, "refused"]))
    except Exception as error:
        print(json.dumps([title, "other", type(error).__name__, str(error)[:200]]))
    else:
        print(json.dumps([title, "went through"]))


class NoStep(pl.LightningModule):
    def train_dataloader(self):
        return BoringModel().train_dataloader()

    def configure_optimizers(self):
        return None


class Wrong(BoringModel):
    def training_step(self, batch, batch_idx):
        return "loss"


class NoLoss(BoringModel):
    def training_step(self, batch, batch_idx):
        return {"other": self.step(batch)}


class LogTensor(BoringModel):
    def training_step(self, batch, batch_idx):
        self.log("x", torch.ones(2))
        return self.step(batch)


class LogEarly(BoringModel):
    def on_fit_start(self):
        self.log("x", 1.0)


class LogStepAtEpoch(BoringModel):
    def on_train_epoch_end(self):
        self.log("x", 1.0, on_step=True)


class Twice(BoringModel):
    def training_step(self, batch, batch_idx):
        self.log("x", 1.0, on_step=True)
        self.log("x", 1.0, on_step=False, on_epoch=True)
        return self.step(batch)


Any = (MisconfigurationException, ValueError, TypeError, RuntimeError)
M = MisconfigurationException
fit = lambda model, **more: lambda: pl.Trainer(**(options | more)).fit(model)  # noqa: E731
attempt("no step", fit(NoStep()), M)
attempt("wrong return", fit(Wrong()), M)
attempt("dict without loss", fit(NoLoss()), M)
attempt("log of two", fit(LogTensor()), Any)
attempt("log in on_fit_start", fit(LogEarly()), M)
attempt("log step at epoch", fit(LogStepAtEpoch()), M)
attempt("log twice", fit(Twice()), M)
attempt("missing monitor", fit(BoringModel(), callbacks=[EarlyStopping("nope")]), Any)
attempt(
    "missing checkpoint monitor",
    fit(BoringModel(), callbacks=[ModelCheckpoint(monitor="nope")], enable_checkpointing=True),
    M,
)
attempt("max_epochs", lambda: pl.Trainer(max_epochs=-5), M)
attempt("max_steps", lambda: pl.Trainer(max_steps=-5), M)
attempt("limit", lambda: pl.Trainer(limit_train_batches=1.5), M)
attempt("val_check_interval", lambda: pl.Trainer(val_check_interval=1.5), M)
attempt("precision", lambda: pl.Trainer(precision="3-true"), Any)
attempt("accelerator", lambda: pl.Trainer(accelerator="gpux"), Any)
attempt("strategy", lambda: pl.Trainer(strategy="nope"), Any)
attempt("devices", lambda: pl.Trainer(accelerator="cpu", devices=0), M)
attempt("cuda", lambda: pl.Trainer(accelerator="cuda"), M)
attempt("argument", lambda: pl.Trainer(max_epoch=3), TypeError)
attempt("positional", lambda: pl.Trainer("cpu"), TypeError)
attempt("clip algorithm", lambda: pl.Trainer(gradient_clip_val=1.0, gradient_clip_algorithm="x"), M)
attempt("clip type", lambda: pl.Trainer(gradient_clip_val="x"), TypeError)
attempt("accumulate", lambda: pl.Trainer(accumulate_grad_batches=0), Any)
attempt("fast_dev_run", lambda: pl.Trainer(fast_dev_run="x"), Any)
attempt("mode", lambda: ModelCheckpoint(monitor="x", mode="up"), M)
attempt("stop mode", lambda: EarlyStopping("x", mode="up"), M)
attempt("top_k", lambda: ModelCheckpoint(save_top_k=-2), M)
attempt("every two", lambda: ModelCheckpoint(every_n_train_steps=1, every_n_epochs=1), M)
attempt("two checkpoints off", lambda: pl.Trainer(enable_checkpointing=False, callbacks=ModelCheckpoint()), M)
attempt("no model", lambda: pl.Trainer(**options).fit(), TypeError)
attempt("not a module", lambda: pl.Trainer(**options).fit(torch.nn.Linear(1, 1)), TypeError)
attempt("validate nothing", lambda: pl.Trainer(**options).validate(), TypeError)
attempt("best of nothing", lambda: pl.Trainer(**options).test(BoringModel(), ckpt_path="best"), Any)
attempt(
    "missing file",
    lambda: pl.Trainer(**options).fit(BoringModel(), ckpt_path="none.ckpt"),
    (FileNotFoundError, *Any),
)
attempt("barebones", lambda: pl.Trainer(barebones=True, logger=True), Any)
attempt("module without trainer", lambda: BoringModel().trainer, RuntimeError)
