"""Every public name of Lightning's trainer, modules and callbacks is there, or meant to be gone."""

import inspect
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch import callbacks, cli, loggers, profilers
from lightning.pytorch.tuner import Tuner
from torch import nn

from blixt import fabric, trainer

OURS = {
    "LightningModule": "Module",
    "LightningDataModule": "DataModule",
    "LightningCLI": "CLI",
    "LightningArgumentParser": "ArgumentParser",
}
GONE = {"LitLogger", "XLAProfiler"}
"""Of Lightning's cloud; and the door's own, for those who have torch_xla."""
FROM_THE_DOOR = {"TQDMProgressBar"}
MISSING: dict[str, set[str]] = {
    # Deprecated, or a helper of `save_hyperparameters` that is public by its name only.
    "LightningModule": {"configure_sharded_model", "remove_ignored_hparams"},
    "LightningDataModule": {"remove_ignored_hparams"},
    # Parts of how they do their work; nobody is meant to override or call them.
    "BatchSizeFinder": {"SUPPORTED_MODES"},
    "LearningRateFinder": {"SUPPORTED_MODES"},
    "EarlyStopping": {"mode_dict", "monitor_op", "order_dict"},
    "ModelCheckpoint": {"check_monitor_top_k", "file_exists"},
    "ModelPruning": {"sanitize_parameters_to_prune"},
    "ModelSummary": {"summarize"},
    "RichModelSummary": {"summarize"},
    "PyTorchProfiler": {"STEP_FUNCTIONS"},
    "StochasticWeightAveraging": {
        *("avg_fn", "pl_module_contains_batch_norm", "reset_batch_norm_and_save_state", "reset_momenta"),
        *("swap_end", "swa_end", "transfer_weights", "update_parameters"),
    },
    # Of rich's progress columns, which ours is not made of.
    "RichProgressBar": {
        *("configure_columns", "refresh", "test_progress_bar", "train_progress_bar", "val_progress_bar"),
        "val_sanity_check_bar",
    },
    **{
        name: {"LOGGER_JOIN_CHAR"}
        for name in ("CSVLogger", "MLFlowLogger", "TensorBoardLogger", "WandbLogger")
    },
}


def pairs() -> dict[str, tuple[Any, Any]]:
    """Lightning's classes by name, each with ours."""
    theirs = {
        name: getattr(pl, name) for name in ("Trainer", "LightningModule", "LightningDataModule", "Callback")
    }
    for room in (callbacks, loggers, profilers):
        theirs |= {name: getattr(room, name) for name in room.__all__}
    theirs["Tuner"] = Tuner
    names = ("LightningCLI", "LightningArgumentParser", "SaveConfigCallback")
    theirs |= {name: getattr(cli, name) for name in names}
    found: dict[str, tuple[Any, Any]] = {}
    for name, kind in theirs.items():
        if name not in GONE:
            own = OURS.get(name, name)
            found[name] = (kind, getattr(trainer, own, None) or getattr(fabric, own))
    return found


def public(kind: Any) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize("name", pairs())
def test_every_public_name_of_the_class_is_there(name: str) -> None:
    theirs, mine = pairs()[name]
    if name in FROM_THE_DOOR:
        from blixt.compat.lightning.own.tqdm_bar import TQDMProgressBar as mine
    own: Any = mine(accelerator="cpu", logger=False) if name == "Trainer" else mine
    missing = public(theirs) - set(dir(own)) - set(dir(nn.Module))
    assert missing <= MISSING.get(name, set())


@pytest.mark.parametrize("name", pairs())
def test_every_argument_of_its_methods_is_there(name: str) -> None:
    theirs, mine = pairs()[name]
    renamed = {"pl_module", "args", "kwargs", "_", "__", "summarize_kwargs"}
    for method in sorted(public(theirs) & set(dir(mine))):
        their, my = getattr(theirs, method), getattr(mine, method)
        if not (inspect.isfunction(their) and inspect.isfunction(my)) or hasattr(nn.Module, method):
            continue
        taken = inspect.signature(my).parameters
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
            continue
        asked = set(inspect.signature(their).parameters)
        assert asked - set(taken) - renamed == set(), method
