"""Files of older Lightning releases get the layout that Lightning's own upgrade gives them, and go on."""

import copy
import logging
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.utilities.migration import migrate_checkpoint as their_migration

from blixt.trainer import Module, Trainer, migrate_checkpoint
from blixt.trainer.checkpoint import read
from blixt.trainer.checkpoint.sections import counters_of

from .lightning_pair import BATCHES, make_loader, model_of, options, weights

EVERY = {"ready": 0, "started": 0, "processed": 0, "completed": 0}


def progress(done: int, names: Any = EVERY) -> dict[str, Any]:
    return {span: dict.fromkeys(names, done) for span in ("total", "current")}


def fit_loop_of_1_6(epochs: int, batches: int, steps: int) -> dict[str, Any]:
    """The training loop's section as releases 1.6 to 1.9 laid it out."""
    two = ("ready", "completed")
    optimizer = {"step": progress(steps, two), "zero_grad": progress(steps, (*two, "started"))}
    return {
        "state_dict": {},
        "epoch_progress": {**progress(epochs), "current": {**dict.fromkeys(EVERY, epochs)}},
        "epoch_loop.state_dict": {},
        "epoch_loop.batch_progress": {**progress(batches), "is_last_batch": True},
        "epoch_loop.scheduler_progress": progress(epochs, two),
        "epoch_loop.batch_loop.state_dict": {},
        "epoch_loop.batch_loop.optimizer_loop.state_dict": {},
        "epoch_loop.batch_loop.optimizer_loop.optim_progress": {
            "optimizer": optimizer,
            "optimizer_position": 0,
        },
        "epoch_loop.batch_loop.manual_loop.state_dict": {},
        "epoch_loop.batch_loop.manual_loop.optim_step_progress": progress(0, two),
        "epoch_loop.val_loop.state_dict": {},
        "epoch_loop.val_loop.dataloader_progress": progress(0, two),
        "epoch_loop.val_loop.epoch_loop.state_dict": {},
        "epoch_loop.val_loop.epoch_loop.batch_progress": {**progress(0), "is_last_batch": False},
    }


def key_of(name: str) -> str:
    return f"{name}{{'monitor': 'a', 'mode': 'min', 'save_on_train_epoch_end': None}}"


OLD: dict[str, dict[str, Any]] = {
    "0.9": {
        "pytorch-lightning_version": "0.9.0",
        "checkpoint_callback_best_model_score": 0.5,
        "checkpoint_callback_best_model_path": "best.ckpt",
        "early_stop_callback_wait": 2,
        "early_stop_callback_patience": 3,
    },
    "1.5": {"pytorch-lightning_version": "1.5.0", "callbacks": {}},
    "1.6": {
        "pytorch-lightning_version": "1.6.0",
        "callbacks": {key_of("ModelCheckpoint"): {"x": 1}, "EarlyStopping": {"y": 2}},
        "loops": {
            "fit_loop": fit_loop_of_1_6(1, 10, 10),
            "validate_loop": {
                "state_dict": {},
                "dataloader_progress": progress(0, ("ready", "completed")),
                "epoch_loop.state_dict": {},
                "epoch_loop.batch_progress": {**progress(0), "is_last_batch": False},
            },
        },
    },
    "1.8": {
        "pytorch-lightning_version": "1.8.3",
        "amp_scaling_state": {"scale": 1},
        "callbacks": {key_of("ModelCheckpoint"): {"x": 1}},
        "loops": {
            "fit_loop": {**fit_loop_of_1_6(2, 20, 10), "epoch_loop.batch_loop.state_dict": {"mine": 1}}
        },
    },
    "2.0": {"pytorch-lightning_version": "2.0.0", "callbacks": {"A": {}}, "loops": {}},
}


def old_file(name: str) -> dict[str, Any]:
    return copy.deepcopy({"epoch": 1, "global_step": 10, "state_dict": {}, **OLD[name]})


@pytest.mark.parametrize("name", OLD)
def test_old_layouts_become_what_lightning_makes_of_them(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours, our_steps = migrate_checkpoint(old_file(name))
        theirs, their_steps = their_migration(old_file(name))
    states = theirs["callbacks"].items()
    by_name = {key if isinstance(key, str) else key.__name__: state for key, state in states}
    assert ours == {**theirs, "callbacks": by_name}
    assert {release: len(steps) for release, steps in our_steps.items()} == {
        release: len(steps) for release, steps in their_steps.items()
    }


def test_a_migration_can_stop_at_a_release_and_leaves_newer_files_alone() -> None:
    _, steps = migrate_checkpoint(old_file("1.5"), target_version="1.6.0")
    assert list(steps) == ["1.6.0"]
    newer = {"pytorch-lightning_version": "9.0.0", "state_dict": {}}
    assert migrate_checkpoint(dict(newer)) == (newer, {})


def test_states_whose_keys_would_be_the_same_are_left_and_told() -> None:
    content = old_file("1.6")
    for value in ("True", "False"):
        content["callbacks"][key_of("ModelCheckpoint").replace("None", value)] = {}
    with pytest.warns(UserWarning, match="keys that are the same today"):
        assert len(migrate_checkpoint(content)[0]["callbacks"]) == 4


@pytest.mark.parametrize(
    ("name", "epoch", "done"), [("0.9", 1, False), ("1.5", 1, False), ("1.6", 0, True), ("1.8", 1, True)]
)
def test_the_next_epoch_after_an_old_file_is_the_right_one(name: str, epoch: int, done: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        counters = counters_of(migrate_checkpoint(old_file(name))[0])
    assert (counters["epoch"], counters.get("epoch_done", False)) == (epoch, done)
    assert counters["global_step"] == 10


def test_training_goes_on_from_a_file_of_release_1_6(tmp_path: Path) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    module = model_of(pl.LightningModule)
    run = pl.Trainer(**options(tmp_path, max_epochs=1))
    run.fit(module, make_loader())
    run.save_checkpoint(tmp_path / "a.ckpt")
    run = pl.Trainer(**options(tmp_path, max_epochs=2))
    run.fit(module, make_loader(), ckpt_path=tmp_path / "a.ckpt")
    content = torch.load(tmp_path / "a.ckpt")
    content["pytorch-lightning_version"] = "1.6.5"
    content["loops"] = {"fit_loop": fit_loop_of_1_6(1, BATCHES, BATCHES)}
    torch.save(content, tmp_path / "old.ckpt")
    ours = model_of(Module)
    Trainer(**options(tmp_path, max_epochs=2)).fit(ours, make_loader(), ckpt_path=tmp_path / "old.ckpt")
    assert torch.equal(weights(ours), weights(module))
    assert read(tmp_path / "old.ckpt")["legacy_pytorch-lightning_version"] == "1.6.5"


def test_callbacks_that_an_old_file_names_by_their_classes_are_read_without_lightning(tmp_path: Path) -> None:
    content = old_file("1.5")
    content["callbacks"] = {pl.callbacks.EarlyStopping: {"wait_count": 2}}
    torch.save(content, tmp_path / "old.ckpt")
    assert read(tmp_path / "old.ckpt")["callbacks"] == {"EarlyStopping": {"wait_count": 2}}
