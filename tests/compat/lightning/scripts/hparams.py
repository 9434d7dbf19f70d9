"""save_hyperparameters in its forms, and loading with changes."""

import argparse
import json

import lightning.pytorch as pl
import torch
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.utilities.parsing import AttributeDict


class All(BoringModel):
    def __init__(self, a=1, b="two", *args, c=3.0, **kwargs):
        super().__init__()
        self.save_hyperparameters()


class Some(BoringModel):
    def __init__(self, a, b, c=3):
        super().__init__()
        self.save_hyperparameters("a", "c")
        self.b = b


class Ignore(BoringModel):
    def __init__(self, a, net, c=3):
        super().__init__()
        self.save_hyperparameters(ignore=["net"])


class Space(BoringModel):
    def __init__(self, conf):
        super().__init__()
        self.save_hyperparameters(conf)


class Child(All):
    def __init__(self, extra=5, **kwargs):
        super().__init__(**kwargs)
        self.save_hyperparameters()


class Set(BoringModel):
    def __init__(self, a=1):
        super().__init__()
        self.save_hyperparameters()
        self.hparams.later = 9


def show(title, model):
    print(json.dumps([title, {k: str(v) for k, v in sorted(model.hparams.items())}]))
    print(json.dumps([title, {k: str(v) for k, v in sorted(model.hparams_initial.items())}]))


show("all", All(2, c=4.0, d=7))
show("some", Some(1, 2))
show("ignore", Ignore(1, torch.nn.Linear(1, 1)))
show("namespace", Space(argparse.Namespace(x=1, y="z")))
show("dict", Space({"p": 1}))
show("child", Child(6, a=8))
show("set", Set(2))
options = {
    "accelerator": "cpu",
    "logger": False,
    "max_steps": 1,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
trainer = pl.Trainer(enable_checkpointing=False, **options)
trainer.fit(Child(6, a=8))
trainer.save_checkpoint("c.ckpt")
content = torch.load("c.ckpt", weights_only=False)
print(json.dumps(["file", sorted(content["hyper_parameters"].items()), content["hparams_name"]]))
show("loaded", Child.load_from_checkpoint("c.ckpt"))
show("changed", Child.load_from_checkpoint("c.ckpt", extra=1, a=2))
d = AttributeDict(a=1, b={"c": 2})
d.z = 5
print(json.dumps(["attribute dict", d.a, d.z, dict(d), isinstance(d, dict)]))
try:
    print(d.missing)
except AttributeError as error:
    print(json.dumps(["missing", "missing" in str(error)]))
