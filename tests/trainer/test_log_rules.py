"""What `log` takes, in which hook, and what becomes of it: rule by rule as in Lightning."""

import inspect
import logging
import math
import warnings
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torchmetrics
from torch.utils.data import DataLoader

from blixt import trainer as ours
from blixt.fabric import ConfigError

HOOKS = [
    *("training_step", "validation_step", "test_step", "predict_step", "optimizer_step", "backward"),
    *(name for name in dir(pl.LightningModule) if name.startswith("on_") and name != "on_gpu"),
    *("setup", "teardown", "prepare_data", "configure_model", "configure_optimizers", "configure_callbacks"),
    *("optimizer_zero_grad", "configure_gradient_clipping", "lr_scheduler_step", "train_dataloader"),
    *("val_dataloader", "transfer_batch_to_device"),
]
FORMS: dict[str, dict[str, Any]] = {
    "default": {},
    "both": {"on_step": True, "on_epoch": True, "prog_bar": True},
}
Call = Callable[[Any], Any]


def speaking(base: type, hook: str, call: Call) -> Any:
    """A module of `base` that makes `call` at the beginning of `hook`."""

    class Net(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)
            self.mean = torchmetrics.MeanMetric()

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.layer(batch).mean()

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            pass

        test_step = predict_step = validation_step

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
            return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

        def train_dataloader(self) -> Any:
            return DataLoader(torch.ones(4, 2), 2)  # type: ignore[arg-type]

        val_dataloader = test_dataloader = predict_dataloader = train_dataloader

        def prepare_data(self) -> None:
            pass

    before = getattr(Net, hook)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        call(self)
        return before(self, *args, **kwargs)

    method.__signature__ = inspect.signature(before)  # type: ignore[attr-defined]
    method.__code__ = method.__code__.replace(co_name=hook)
    setattr(Net, hook, method)
    return Net()


def told(library: Any, base: type, hook: str, call: Call) -> Any:
    """The three stores after a run, or the error that ended it."""
    verb = next((stage for stage in ("test", "predict") if stage in hook), "fit")
    trainer = library.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )
    try:
        getattr(trainer, verb)(speaking(base, hook, call))
    except Exception as error:
        return error
    stores = (trainer.callback_metrics, trainer.logged_metrics, trainer.progress_bar_metrics)
    return [{name: shown(float(value)) for name, value in store.items()} for store in stores]


def shown(value: float) -> Any:
    return "nan" if math.isnan(value) else pytest.approx(value)


def both(hook: str, call: Call, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "disabled", True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return told(pl, pl.LightningModule, hook, call), told(ours, ours.Module, hook, call)


@pytest.mark.parametrize("hook", HOOKS)
def test_each_hook_takes_or_refuses_as_in_lightning(hook: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for form, options in FORMS.items():

        def log_it(module: Any, options: dict[str, Any] = options) -> None:
            module.log("name", 2.0, **options)

        theirs, mine = both(hook, log_it, monkeypatch)
        if isinstance(theirs, Exception):
            assert isinstance(mine, ConfigError), form
            assert hook in str(mine), form
        else:
            assert mine == theirs, form


def log(value: Any, **options: Any) -> Call:
    return lambda module: module.log("a", value, **options)


def late(reduce_fx: Any) -> Call:
    return log(1.0, on_step=False, on_epoch=True, reduce_fx=reduce_fx)


def twice(first: dict[str, Any], second: dict[str, Any]) -> Call:
    return lambda module: (module.log("a", 1.0, **first), module.log("a", 2.0, **second))


def of_metric(**options: Any) -> Call:
    return lambda module: (module.mean.update(2.0), module.log("a", module.mean, **options))


def said(reduce_fx: Any) -> str:
    """A name that is the same in every process, which a function's own text is not."""
    return reduce_fx if isinstance(reduce_fx, str) else f"{reduce_fx.__name__}()"


CALLS: dict[str, Call] = {
    **{f"a tensor of shape {shape}": log(torch.full(shape, 3.0)) for shape in ((), (1,), (1, 1), (2,), (0,))},
    **{f"a {type(value).__name__}": log(value) for value in (True, 3, 1.5, "x", None, [1.0], {"b": 1})},
    **{f"{kind}": log(torch.tensor(1, dtype=kind)) for kind in (torch.bool, torch.int64, torch.float16)},
    **{f"{value}": log(value) for value in (float("nan"), float("inf"))},
    **{
        f"reduce_fx {said(fx)}": late(fx)
        for fx in ("mean", "sum", "min", "max", "avg", "nope", max, min, torch.sum)
    },
    **{f"reduce_fx {said(fx)}": late(fx) for fx in (torch.median, abs)},
    "no level": log(1.0, on_step=False, on_epoch=False),
    "a suffix of the trainer's": lambda module: module.log("a/dataloader_idx_0", 1.0),
    "twice": twice({}, {}),
    "twice with other options": twice({}, {"prog_bar": True}),
    "twice, once spelt out": twice({"on_epoch": True}, {}),
    "a metric": of_metric(),
    "a metric by its name": of_metric(metric_attribute="mean"),
    "a metric at both levels": of_metric(on_step=True, on_epoch=True),
    "a metric of nobody": lambda module: module.log("a", torchmetrics.MeanMetric()),
    "a dict": lambda module: module.log_dict({"a": 1.0, "b": torch.tensor(2.0)}),
    "a nested dict": lambda module: module.log_dict({"a": {"b": 1.0}}),
    "a list of pairs": lambda module: module.log_dict([("a", 1.0)]),
    "a name that is a number": lambda module: module.log(3, 1.0),
    "a batch size": log(1.0, on_epoch=True, batch_size=7),
    "not for loggers": log(1.0, logger=False),
    "of rank 0": log(1.0, rank_zero_only=True),
    "of all ranks": log(1.0, sync_dist=True, on_epoch=True),
    "an argument that is none": log(1.0, nope=1),
}


@pytest.mark.parametrize("hook", ["training_step", "validation_step"])
@pytest.mark.parametrize("name", CALLS)
def test_each_value_and_option_means_what_it_means_to_lightning(
    name: str, hook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, mine = both(hook, CALLS[name], monkeypatch)
    if isinstance(theirs, Exception):
        assert isinstance(mine, ConfigError if name != "an argument that is none" else TypeError)
    else:
        assert mine == theirs
