"""Every form of configure_optimizers, with the learning rates that follow."""

import json

import lightning.pytorch as pl
import torch
from lightning.pytorch.demos.boring_classes import BoringModel
from torch.optim.lr_scheduler import ExponentialLR, ReduceLROnPlateau, StepLR

FORMS = {}


def form(function):
    FORMS[function.__name__] = function
    return function


@form
def one(m, o):
    return o


@form
def listed(m, o):
    return [o]


@form
def pair(m, o):
    return [o], [StepLR(o, 1)]


@form
def dicts(m, o):
    return {"optimizer": o, "lr_scheduler": ExponentialLR(o, 0.5)}


@form
def by_step(m, o):
    return {
        "optimizer": o,
        "lr_scheduler": {"scheduler": ExponentialLR(o, 0.5), "interval": "step", "frequency": 2},
    }


@form
def every_two_epochs(m, o):
    return [o], [{"scheduler": StepLR(o, 1, 0.1), "interval": "epoch", "frequency": 2, "name": "mine"}]


@form
def plateau(m, o):
    return {"optimizer": o, "lr_scheduler": ReduceLROnPlateau(o, patience=0), "monitor": "v"}


@form
def plateau_dict(m, o):
    return {
        "optimizer": o,
        "lr_scheduler": {"scheduler": ReduceLROnPlateau(o, patience=0), "monitor": "v", "strict": False},
    }


@form
def two(m, o):
    second = torch.optim.SGD(m.parameters(), lr=1.0)
    return [o, second], [StepLR(o, 1), StepLR(second, 1)]


@form
def nothing(m, o):
    return None


class Model(BoringModel):
    def __init__(self, make):
        super().__init__()
        self.make, self.rates = make, []

    def configure_optimizers(self):
        return self.make(self, torch.optim.SGD(self.parameters(), lr=0.1))

    def on_train_batch_end(self, *_):
        self.rates.append([g["lr"] for o in self.trainer.optimizers for g in o.param_groups])

    def validation_step(self, batch, batch_idx):
        self.log("v", 1.0)


for name, make in FORMS.items():
    model = Model(make)
    trainer = pl.Trainer(
        max_epochs=4,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_train_batches=2,
        limit_val_batches=1,
    )
    try:
        trainer.fit(model)
        configs = [
            [c.interval, c.frequency, c.monitor, c.name, c.reduce_on_plateau]
            for c in trainer.lr_scheduler_configs
        ]
        print(json.dumps([name, model.rates, configs, len(trainer.optimizers)]))
    except Exception as error:
        print(json.dumps([name, "error", type(error).__mro__[-3].__name__]))
