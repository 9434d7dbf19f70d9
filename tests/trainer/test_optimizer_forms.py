"""Each form that `configure_optimizers` may return means what it means to Lightning."""

import logging
import warnings
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch.optim.lr_scheduler import (
    ConstantLR,
    ExponentialLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)
from torch.utils.data import DataLoader

from blixt.trainer import Module, Trainer


def made(module: Any, rate: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), lr=rate)


def with_schedule(module: Any, form: Callable[[Any, Any], Any], rate: float = 0.1) -> Any:
    optimizer = made(module, rate)
    return form(optimizer, StepLR(optimizer, 1, 0.5))


def plateau(module: Any, **more: Any) -> dict[str, Any]:
    optimizer = made(module)
    scheduler = ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, **more}}


def in_turn(module: Any) -> Any:
    optimizer = made(module)
    parts: Any = [ConstantLR(optimizer, 0.5, 2), ExponentialLR(optimizer, 0.5)]
    return [optimizer], [SequentialLR(optimizer, parts, [1])]


def one_cycle(module: Any) -> Any:
    optimizer = made(module)
    cycle = OneCycleLR(optimizer, 1.0, total_steps=int(module.trainer.estimated_stepping_batches))
    return [optimizer], [{"scheduler": cycle, "interval": "step"}]


def two_schedules(module: Any) -> Any:
    optimizer = made(module)
    second = {"scheduler": ExponentialLR(optimizer, 0.9), "interval": "step"}
    return [optimizer], [StepLR(optimizer, 1, 0.5), second]


def two_lists(module: Any) -> Any:
    first, second = made(module), made(module, 0.2)
    return [first, second], [StepLR(first, 1, 0.5), StepLR(second, 2, 0.5)]


FORMS: dict[str, Callable[[Any], Any]] = {
    "an optimizer": made,
    "a list": lambda m: [made(m)],
    "a tuple": lambda m: (made(m),),
    "nothing": lambda m: None,
    "two lists": lambda m: with_schedule(m, lambda o, s: ([o], [s])),
    "a list of two lists": lambda m: with_schedule(m, lambda o, s: [[o], [s]]),
    "no schedules": lambda m: ([made(m)], []),
    "a schedule of every second step": lambda m: with_schedule(
        m, lambda o, s: ([o], [{"scheduler": s, "interval": "step", "frequency": 2}])
    ),
    "two schedules of one optimizer": two_schedules,
    "a dict": lambda m: {"optimizer": made(m)},
    "a dict with a schedule": lambda m: with_schedule(m, lambda o, s: {"optimizer": o, "lr_scheduler": s}),
    "a dict with a named dict": lambda m: with_schedule(
        m, lambda o, s: {"optimizer": o, "lr_scheduler": {"scheduler": s, "interval": "step", "name": "n"}}
    ),
    "a tuple of a dict": lambda m: with_schedule(m, lambda o, s: ({"optimizer": o, "lr_scheduler": s},)),
    "a plateau": lambda m: plateau(m, monitor="v"),
    "a plateau of every second epoch": lambda m: plateau(m, monitor="v", frequency=2),
    "a plateau of steps": lambda m: plateau(m, monitor="t", interval="step"),
    "a plateau of what nobody logs": lambda m: plateau(m, monitor="nothing", strict=False),
    "schedules in turn": in_turn,
    "one cycle": one_cycle,
}
BY_HAND: dict[str, Callable[[Any], Any]] = {
    "a list": lambda m: [made(m), made(m, 0.2)],
    "a tuple": lambda m: (made(m), made(m, 0.2)),
    "dicts": lambda m: tuple(
        with_schedule(m, lambda o, s: {"optimizer": o, "lr_scheduler": s}, rate) for rate in (0.1, 0.2)
    ),
    "dicts, one with a schedule": lambda m: (
        {"optimizer": made(m)},
        with_schedule(m, lambda o, s: {"optimizer": o, "lr_scheduler": s}, 0.2),
    ),
    "two lists": two_lists,
}


def model_of(base: Any, form: Callable[[Any], Any], by_hand: bool) -> Any:
    class Model(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(3)
            self.layer = torch.nn.Linear(1, 1)
            self.rates: list[list[float]] = []
            self.automatic_optimization = not by_hand

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.rates.append([g["lr"] for o in self.trainer.optimizers for g in o.param_groups])
            self.log("t", 1.0)
            loss = self.layer(batch).sum()
            if by_hand:
                optimizers, schedulers = self.optimizers(), self.lr_schedulers() or []
                for optimizer in optimizers:
                    optimizer.zero_grad()
                self.manual_backward(loss)
                for each in (*optimizers, *(schedulers if isinstance(schedulers, list) else [schedulers])):
                    each.step()
            return loss

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("v", 1.0)

        def configure_optimizers(self) -> Any:
            return form(self)

    return Model()


def fitted(trainer_class: Any, base: Any, form: Callable[[Any], Any], folder: Any, **more: Any) -> Any:
    """The rates of each batch, the settings of the schedulers, the weights and the number of steps."""
    model = model_of(base, form, more.pop("by_hand", False))
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = trainer_class(
        **{**quiet, "enable_checkpointing": False, "num_sanity_val_steps": 0, **more},
        accelerator="cpu",
        devices=1,
        max_epochs=3,
        default_root_dir=folder,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(model, DataLoader(torch.ones(4, 1)), DataLoader(torch.ones(1, 1)))  # type: ignore[arg-type]
    kept = ("interval", "frequency", "monitor", "strict", "name", "reduce_on_plateau")
    settings = [
        (type(config.scheduler).__name__, *(getattr(config, name) for name in kept))
        for config in trainer.lr_scheduler_configs
    ]
    return model.rates, settings, model.layer.weight.item(), trainer.global_step


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "disabled", True)


OF_WINDOWS = ["an optimizer", "a schedule of every second step", "a plateau of steps", "one cycle"]


@pytest.mark.parametrize(
    ("form", "window"), [*((form, 1) for form in FORMS), *((form, 2) for form in OF_WINDOWS)]
)
def test_a_form_trains_as_in_lightning(form: str, window: int, tmp_path: Any) -> None:
    both = [
        fitted(trainer, base, FORMS[form], tmp_path, accumulate_grad_batches=window)
        for trainer, base in ((pl.Trainer, pl.LightningModule), (Trainer, Module))
    ]
    assert both[0] == both[1]


@pytest.mark.parametrize("form", BY_HAND)
def test_several_optimizers_are_stepped_by_hand_as_in_lightning(form: str, tmp_path: Any) -> None:
    both = [
        fitted(trainer, base, BY_HAND[form], tmp_path, by_hand=True)
        for trainer, base in ((pl.Trainer, pl.LightningModule), (Trainer, Module))
    ]
    assert both[0] == both[1]
