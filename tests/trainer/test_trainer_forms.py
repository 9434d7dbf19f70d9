"""Each argument of the Trainer, in each of its forms and by environment, means what it means to Lightning."""

import inspect
import logging
import os
import warnings
from collections.abc import Iterator
from datetime import timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger as TheirCSVLogger

from blixt import trainer as ours
from blixt.fabric import ConfigError
from blixt.trainer import CSVLogger, Trainer

Limits: Any = (None, 0, 1, 5, 1.0, 0.5, 0.0, 2.0, 1.5, -1, "5")
FORMS: dict[str, tuple[Any, ...]] = {
    "accelerator": ("auto", "cpu", "gpu", "cuda", "mps", "tpu", "nope"),
    "strategy": (
        *("auto", "ddp", "ddp_spawn", "ddp_fork", "ddp_notebook", "ddp_find_unused_parameters_true"),
        *("ddp_spawn_find_unused_parameters_false", "single_device", "xla", "dp", "nope"),
    ),
    "devices": (1, "1", "auto", 2, "2", 0, "0", [], -2),
    "num_nodes": (1, 2, 0),
    "precision": (
        *(None, "32-true", 32, "32", "64-true", 64, "64", "bf16-mixed", "bf16", "bf16-true", "16-true"),
        *("transformer-engine", "8"),
    ),
    "logger": (None, True, False, [], "one", "two"),
    "callbacks": (None, [], "one", "two"),
    "fast_dev_run": (False, True, 0, 1, 3, -1),
    "max_epochs": (0, 3, -1, -2),
    "min_epochs": (None, 2, 0),
    "max_steps": (-1, 0, 10, -2),
    "min_steps": (None, 2),
    "max_time": ("00:00:00:10", "01:02:03:04", timedelta(minutes=2), {"days": 1, "hours": 2}, "soon"),
    **{f"limit_{stage}_batches": Limits for stage in ("train", "val", "test", "predict")},
    "overfit_batches": (0.0, 0, 1, 4, 0.25, 1.0, -1, 1.5),
    "val_check_interval": (None, 1.0, 0.25, 1, 10, 1.5, -1, "00:00:10:00", timedelta(minutes=2), "often"),
    "check_val_every_n_epoch": (None, 1, 3, "often"),
    "num_sanity_val_steps": (None, 0, 2, 5, -1),
    "log_every_n_steps": (None, 0, 1, 50),
    "enable_checkpointing": (None, True, False),
    "enable_progress_bar": (None, True, False),
    "enable_model_summary": (None, True, False),
    "accumulate_grad_batches": (1, 4),
    "gradient_clip_val": (None, 0, 0.5, 1, "far"),
    "gradient_clip_algorithm": (None, "norm", "value", "NORM", "sign"),
    "deterministic": (None, False),
    "benchmark": (None, False),
    "inference_mode": (True, False),
    "use_distributed_sampler": (True, False),
    "profiler": (None, "simple", "advanced", "pytorch", "nope"),
    "detect_anomaly": (True, False),
    "barebones": (True, False),
    "plugins": (None, []),
    "sync_batchnorm": (True, False),
    "reload_dataloaders_every_n_epochs": (0, 2, -1),
    "default_root_dir": (None, "folder", "memory://host/folder"),
    "enable_autolog_hparams": (True, False),
    "model_registry": (None,),
}
ANSWERS = [
    "max_epochs",
    "min_epochs",
    "max_steps",
    "min_steps",
    "limit_train_batches",
    "limit_val_batches",
    "limit_test_batches",
    "limit_predict_batches",
    "overfit_batches",
    "check_val_every_n_epoch",
    "num_sanity_val_steps",
    "log_every_n_steps",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "fast_dev_run",
    "barebones",
    "precision",
    "reload_dataloaders_every_n_epochs",
    "num_devices",
    "num_nodes",
    "world_size",
    "device_ids",
    "global_rank",
    "local_rank",
    "node_rank",
    "current_epoch",
    "global_step",
    "is_global_zero",
    "should_stop",
    "enable_validation",
    "default_root_dir",
    "training",
    "validating",
    "testing",
    "predicting",
    "sanity_checking",
    "evaluating",
    "interrupted",
    "num_training_batches",
    "num_val_batches",
    "received_sigterm",
    "ckpt_path",
    "is_last_batch",
    "callback_metrics",
    "lr_scheduler_configs",
    "optimizers",
    "train_dataloader",
    "val_dataloaders",
    "datamodule",
    "checkpoint_callbacks",
    "early_stopping_callback",
]
LATE = {
    "max_epochs": (None, 1000, -1),
    "min_epochs": (None, 0, 1),
    "gradient_clip_algorithm": (None, "norm"),
    "check_val_every_n_epoch": (None, 1),
}
"""What Lightning fills in only when a run begins, and what it then is."""
PLAIN = {"RichProgressBar": "TQDMProgressBar", "RichModelSummary": "ModelSummary"}
"""Lightning takes rich for both where it is installed."""


def made(library: Any, given: dict[str, Any], folder: Path) -> Any:
    """A trainer; objects are made of their names, because each library wants its own."""
    given = {"accelerator": "cpu", "devices": 1, **given}
    kind = CSVLogger if library is ours else TheirCSVLogger
    if given.get("logger") in ("one", "two"):
        given["logger"] = kind(folder) if given["logger"] == "one" else [kind(folder), kind(folder)]
    if given.get("callbacks") in ("one", "two"):
        both = [library.callbacks.Timer(), library.callbacks.LearningRateMonitor()]
        given["callbacks"] = both[0] if given["callbacks"] == "one" else both
    return library.Trainer(**given)


def answers(library: Any, given: dict[str, Any], folder: Path) -> dict[str, Any] | str:
    """What such a trainer says of itself."""
    try:
        trainer = made(library, given, folder)
    except Exception:
        return "refused"
    said = {name: getattr(trainer, name) for name in ANSWERS}
    said["checkpoint_callbacks"] = len(said["checkpoint_callbacks"])
    for name, found in {"accelerator": trainer.accelerator, "strategy": trainer.strategy}.items():
        said[name] = type(found).__name__
    said["profiler"] = type(trainer.profiler).__name__
    said["loggers"] = [type(logger).__name__ for logger in trainer.loggers]
    kinds = [type(callback).__name__ for callback in trainer.callbacks]
    said["callbacks"] = sorted(PLAIN.get(kind, kind) for kind in kinds)
    algorithm = said["gradient_clip_algorithm"]
    said["gradient_clip_algorithm"] = algorithm and str(getattr(algorithm, "value", algorithm)).lower()
    return said


def test_every_argument_has_its_row() -> None:
    assert FORMS.keys() == inspect.signature(pl.Trainer).parameters.keys() - {"self"}


@pytest.mark.parametrize("argument", FORMS)
def test_every_form_is_understood_as_by_lightning(
    argument: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "disabled", True)
    for value in FORMS[argument]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs, mine = (answers(library, {argument: value}, tmp_path) for library in (pl, ours))
        if isinstance(theirs, str) or isinstance(mine, str):
            assert mine == theirs, value
            continue
        for name, said in theirs.items():
            if said is None and name in LATE:
                assert mine[name] in LATE[name], (value, name)
            else:
                assert mine[name] == said, (value, name)


IN_THE_ENVIRONMENT = {
    "accelerator": "cpu",
    "devices": "1",
    "strategy": "ddp",
    "precision": "bf16-mixed",
    "logger": "False",
    "max_epochs": "7",
    "max_time": "00:01:00:00",
    "limit_val_batches": "0.25",
    "overfit_batches": "2",
    "val_check_interval": "0.5",
    "accumulate_grad_batches": "4",
    "gradient_clip_val": "0.5",
    "gradient_clip_algorithm": "value",
    "fast_dev_run": "2",
    "enable_progress_bar": "False",
    "profiler": "simple",
    "barebones": "True",
    "default_root_dir": "elsewhere",
}


@pytest.mark.parametrize("argument", IN_THE_ENVIRONMENT)
def test_the_environment_means_what_the_argument_means(
    argument: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = IN_THE_ENVIRONMENT[argument]
    monkeypatch.setenv(f"PL_TRAINER_{argument.upper()}", text)
    by_environment = (Trainer(**{"accelerator": "cpu"} if argument != "accelerator" else {}), text)
    monkeypatch.delenv(f"PL_TRAINER_{argument.upper()}")
    try:
        value = eval(text, {"__builtins__": {}})
    except (NameError, SyntaxError):
        value = text
    by_hand = Trainer(**{"accelerator": "cpu", argument: value})
    found = by_environment[0]
    assert found.config == by_hand.config
    assert (found.precision, found.num_devices) == (by_hand.precision, by_hand.num_devices)
    assert found.default_root_dir == by_hand.default_root_dir
    for part in ("strategy", "profiler"):
        assert type(getattr(found, part)) is type(getattr(by_hand, part))
    for parts in ("loggers", "callbacks"):
        assert list(map(type, getattr(found, parts))) == list(map(type, getattr(by_hand, parts)))


SEEN: dict[str, tuple[str, Any, Any]] = {
    "num_nodes": ("2", lambda t: t.num_nodes, 2),
    "callbacks": ("None", lambda t: t.callbacks == [], False),
    "min_epochs": ("2", lambda t: t.min_epochs, 2),
    "max_steps": ("11", lambda t: t.max_steps, 11),
    "min_steps": ("3", lambda t: t.min_steps, 3),
    **{
        f"limit_{s}_batches": ("3", attrgetter(f"limit_{s}_batches"), 3) for s in ("train", "test", "predict")
    },
    "check_val_every_n_epoch": ("3", lambda t: t.check_val_every_n_epoch, 3),
    "num_sanity_val_steps": ("-1", lambda t: t.num_sanity_val_steps, float("inf")),
    "log_every_n_steps": ("9", lambda t: t.log_every_n_steps, 9),
    "enable_checkpointing": ("False", lambda t: t.checkpoint_callbacks, []),
    "enable_model_summary": ("False", lambda t: [c for c in t.callbacks if "Summary" in str(type(c))], []),
    "deterministic": ("warn", lambda t: torch.is_deterministic_algorithms_warn_only_enabled(), True),
    "benchmark": ("True", lambda t: torch.backends.cudnn.benchmark, True),
    "inference_mode": ("False", lambda t: t.config.inference_mode, False),
    "use_distributed_sampler": ("False", lambda t: t.config.use_distributed_sampler, False),
    "detect_anomaly": ("True", lambda t: t.config.detect_anomaly, True),
    "plugins": ("None", lambda t: t.precision, "32-true"),
    "sync_batchnorm": ("True", lambda t: t.config.sync_batchnorm, True),
    "reload_dataloaders_every_n_epochs": ("2", lambda t: t.reload_dataloaders_every_n_epochs, 2),
    "enable_autolog_hparams": ("False", lambda t: t.config.enable_autolog_hparams, False),
}
"""The other arguments, by what a trainer that was told by the environment shows of them."""


@pytest.fixture
def _numerics() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    yield
    torch.use_deterministic_algorithms(before[0])
    torch.backends.cudnn.benchmark = before[1]
    if workspace is None:
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


@pytest.mark.usefixtures("_numerics")
@pytest.mark.parametrize("argument", SEEN)
def test_a_trainer_shows_what_the_environment_said(
    argument: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text, seen, expected = SEEN[argument]
    monkeypatch.setenv(f"PL_TRAINER_{argument.upper()}", text)
    assert seen(Trainer(accelerator="cpu")) == expected


def test_every_argument_was_given_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert FORMS.keys() - IN_THE_ENVIRONMENT.keys() - SEEN.keys() == {"model_registry"}
    monkeypatch.setenv("PL_TRAINER_MODEL_REGISTRY", "mine")
    with pytest.raises(ConfigError, match=r"Trainer\(model_registry='mine'\)"):
        Trainer(accelerator="cpu")
