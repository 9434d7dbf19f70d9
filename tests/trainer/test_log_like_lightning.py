"""Random `log` calls give the same numbers and rows as in Lightning."""

import warnings
from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from lightning.pytorch.loggers.logger import Logger as LightningLogger
from torch.utils.data import DataLoader

from blixt.fabric import Logger
from blixt.trainer import Module, Trainer

STEP_HOOKS = ("training_step", "on_train_batch_start", "on_train_batch_end", "on_before_optimizer_step")
EPOCH_HOOKS = ("on_train_start", "on_train_epoch_start", "on_train_epoch_end")
EVAL_HOOKS = ("validation_step", "on_validation_batch_end", "on_validation_epoch_end")
Call = dict[str, Any]


class Rows:
    def __init__(self) -> None:
        self.rows: list[tuple[Any, dict[str, Any]]] = []

    @property
    def name(self) -> str:
        return "rows"

    @property
    def version(self) -> int:
        return 0

    def log_metrics(self, metrics: Any, step: Any = None) -> None:
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass


class OurRows(Rows, Logger):
    pass


class TheirRows(Rows, LightningLogger):
    pass


def calls() -> st.SearchStrategy[dict[str, list[Call]]]:
    """For some hooks, one or two calls with options that are legal there."""
    common = {
        "prog_bar": st.booleans(),
        "logger": st.sampled_from([None, True, False]),
        "reduce_fx": st.sampled_from(["mean", "sum", "min", "max"]),
        "batch_size": st.sampled_from([None, 1, 3]),
        "kind": st.sampled_from(["float", "tensor", "int"]),
    }
    both, late = {"on_step": True, "on_epoch": True}, {"on_step": False, "on_epoch": True}
    levels = st.sampled_from([{}, {"on_step": True}, {"on_epoch": True}, both, late])
    eval_levels = st.sampled_from([{}, {"on_step": True}, {"on_step": True, "on_epoch": False}])
    call = st.fixed_dictionaries(common)

    def some(level: st.SearchStrategy[Call]) -> st.SearchStrategy[list[Call]]:
        return st.lists(st.tuples(call, level).map(lambda pair: {**pair[0], **pair[1]}), max_size=2)

    hooks = {hook: some(levels) for hook in STEP_HOOKS}
    hooks |= {hook: some(st.just({})) for hook in (*EPOCH_HOOKS, "on_validation_epoch_end")}
    hooks |= {hook: some(eval_levels) for hook in ("validation_step", "on_validation_batch_end")}
    return st.fixed_dictionaries(hooks)


def make_module(base: type, program: dict[str, list[Call]], seen: list[Any]) -> Any:
    """A module of `base` that runs `program`; what it sees of the metrics on the way goes to `seen`."""

    def speak(self: Any, hook: str) -> None:
        self.counter += 1
        for index, call in enumerate(program.get(hook, [])):
            options = {name: value for name, value in call.items() if name != "kind"}
            number = (self.counter * 7 + index * 3) % 11
            value = {"float": number / 4, "int": number, "tensor": torch.tensor(number / 4)}[call["kind"]]
            self.log(f"{hook}_{index}", value, **options)

    def hook_method(hook: str) -> Any:
        def method(self: Any, *args: Any) -> None:
            speak(self, hook)
            if hook.endswith("epoch_end"):
                seen.append((hook, plain(self.trainer.callback_metrics)))

        return method

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        speak(self, "training_step")
        seen.append(("step", plain(self.trainer.callback_metrics)))
        return self.layer(batch).mean()

    def validation_step(self: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        speak(self, "validation_step")

    def start(self: Any) -> None:
        base.__init__(self)
        self.layer = torch.nn.Linear(2, 1)
        self.counter = 0

    hooks = {hook: hook_method(hook) for hook in (*STEP_HOOKS[1:], *EPOCH_HOOKS, *EVAL_HOOKS[1:])}
    body = {
        **hooks,
        "__init__": start,
        "training_step": training_step,
        "validation_step": validation_step,
        "configure_optimizers": lambda self: torch.optim.SGD(self.parameters(), lr=0.1),
        "on_validation_end": lambda self: seen.append(("end", plain(self.trainer.callback_metrics))),
    }
    return type("Talker", (base,), body)()


def plain(metrics: Any) -> dict[str, float]:
    return {name: pytest.approx(float(value), rel=1e-6, nan_ok=True) for name, value in metrics.items()}


def told(
    kind: Any, base: type, rows: Rows, program: dict[str, list[Call]], every: int, loaders: int = 1
) -> dict[str, Any]:
    seen: list[Any] = []
    trainer = kind(
        accelerator="cpu",
        devices=1,
        max_epochs=2,
        log_every_n_steps=every,
        logger=rows,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=1,
    )
    data = torch.arange(14.0).reshape(7, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(make_module(base, program, seen), DataLoader(data, 2), [DataLoader(data, 3)] * loaders)
    return {
        "seen": seen,
        "callback": plain(trainer.callback_metrics),
        "logged": plain(trainer.logged_metrics),
        "bar": plain(trainer.progress_bar_metrics),
        "rows": [(step, plain(row)) for step, row in rows.rows],
    }


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level("ERROR", logger="lightning.pytorch"):
        yield


# No shrinking: a failing program is small enough to read, and each try runs two trainers.
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(program=calls(), every=st.sampled_from([1, 2, 5]), loaders=st.sampled_from([1, 2]))
def test_stores_and_rows_are_those_of_lightning(
    program: dict[str, list[Call]], every: int, loaders: int
) -> None:
    theirs = told(pl.Trainer, pl.LightningModule, TheirRows(), program, every, loaders)
    ours = told(Trainer, Module, OurRows(), program, every, loaders)
    if (
        loaders > 1
    ):  # Lightning hides the loaders' values from on_validation_epoch_end, ours are there already
        del theirs["seen"]
    for part in theirs:
        assert ours[part] == theirs[part], part
