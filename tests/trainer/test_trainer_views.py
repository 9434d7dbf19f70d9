"""What a trainer answers when asked about itself, under the names that users of Lightning know."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from blixt.trainer import Callback, CSVLogger, EarlyStopping, ModelCheckpoint, ProgressBar, Trainer

from .samples import Classifier, make_loader


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """A trainer after two epochs of two batches, with one of each callback and logger."""
    folder = tmp_path_factory.mktemp("views")
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        precision="bf16-mixed",
        min_epochs=1,
        max_epochs=2,
        limit_val_batches=2,
        num_sanity_val_steps=0,
        logger=CSVLogger(folder),
        callbacks=[
            ProgressBar(),
            EarlyStopping("val_loss"),
            EarlyStopping("loss_epoch", check_on_train_epoch_end=True),
            ModelCheckpoint(folder),
        ],
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(Classifier(), make_loader(8), make_loader(12))
    return trainer


TABLE: dict[str, Callable[[Any], Any]] = {
    "accelerator": lambda t: t.fabric.accelerator,
    "callback_metrics": lambda t: t.logbook.newest(),
    "checkpoint_callback": lambda t: t.checkpoint_callbacks[0],
    "checkpoint_callbacks": lambda t: [c for c in t.callbacks if type(c) is ModelCheckpoint],
    "checkpoint_dir": lambda t: Path(t.checkpoint_callback.dirpath),
    "current_epoch": lambda t: 2,
    "device_ids": lambda t: [0],
    "early_stopping_callback": lambda t: t.early_stopping_callbacks[0],
    "early_stopping_callbacks": lambda t: [c for c in t.callbacks if type(c) is EarlyStopping],
    "enable_validation": lambda t: True,
    "estimated_stepping_batches": lambda t: 4,
    "evaluating": lambda t: False,
    "global_rank": lambda t: 0,
    "global_step": lambda t: 4,
    "is_global_zero": lambda t: True,
    "is_last_batch": lambda t: True,
    "lightning_module": lambda t: t.model,
    "local_rank": lambda t: 0,
    "log_dir": lambda t: t.loggers[0].log_dir,
    "logged_metrics": lambda t: t.logbook.logged_metrics,
    "logger": lambda t: t.loggers[0],
    "max_epochs": lambda t: 2,
    "max_steps": lambda t: -1,
    "min_epochs": lambda t: 1,
    "min_steps": lambda t: None,
    "node_rank": lambda t: 0,
    "num_devices": lambda t: 1,
    "num_nodes": lambda t: 1,
    "num_predict_batches": lambda t: [],
    "num_test_batches": lambda t: [],
    "num_training_batches": lambda t: 2,
    "num_val_batches": lambda t: [2],
    "precision": lambda t: "bf16-mixed",
    "precision_plugin": lambda t: t.fabric.precision,
    "predicting": lambda t: False,
    "progress_bar_callback": lambda t: next(c for c in t.callbacks if isinstance(c, ProgressBar)),
    "progress_bar_metrics": lambda t: t.logbook.peek(),
    "scaler": lambda t: None,
    "strategy": lambda t: t.fabric.strategy,
    "testing": lambda t: False,
    "training": lambda t: False,
    "validating": lambda t: False,
    "world_size": lambda t: 1,
}


@pytest.mark.parametrize("name", TABLE)
def test_a_trainer_answers(name: str, fitted: Trainer) -> None:
    assert getattr(fitted, name) == TABLE[name](fitted)


SHOWN: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "callbacks": (lambda t: type(t.callbacks[-1]), ModelCheckpoint),
    "ckpt_path": (lambda t: t.ckpt_path, None),
    "datamodule": (lambda t: t.datamodule, None),
    "default_root_dir": (lambda t: Path(t.default_root_dir).is_dir(), True),
    "distributed_sampler_kwargs": (lambda t: t.distributed_sampler_kwargs, None),
    "fit_loop": (
        lambda t: (t.fit_loop.max_epochs, t.fit_loop.batch_idx, t.fit_loop.total_batch_idx),
        (2, 1, 3),
    ),
    "epoch_loop": (lambda t: (t.fit_loop.epoch_loop.global_step, t.fit_loop.epoch_loop.batch_idx), (4, 1)),
    "interrupted": (lambda t: t.interrupted, False),
    "loggers": (lambda t: list(map(type, t.loggers)), [CSVLogger]),
    "lr_scheduler_configs": (lambda t: [c.interval for c in t.lr_scheduler_configs], ["step"]),
    "model": (lambda t: type(t.model), Classifier),
    "num_sanity_val_batches": (lambda t: t.num_sanity_val_batches, [0]),
    "optimizers": (lambda t: list(map(type, t.optimizers)), [torch.optim.SGD]),
    "predict_dataloaders": (lambda t: t.predict_dataloaders, None),
    "predict_loop": (lambda t: t.predict_loop.predictions, []),
    "received_sigterm": (lambda t: t.received_sigterm, False),
    "sanity_checking": (lambda t: t.sanity_checking, False),
    "should_stop": (lambda t: t.should_stop, False),
    "state": (lambda t: (t.state.fn, t.state.stage, t.state.status), ("fit", None, "finished")),
    "test_dataloaders": (lambda t: t.test_dataloaders, None),
    "test_loop": (lambda t: t.test_loop.max_batches, []),
    "train_dataloader": (lambda t: len(t.train_dataloader), 2),
    "val_dataloaders": (lambda t: len(t.val_dataloaders), 3),
    "validate_loop": (lambda t: t.validate_loop.num_dataloaders, 1),
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_trainer_shows_what_a_run_was_made_of(name: str, fitted: Trainer) -> None:
    ask, answer = SHOWN[name]
    assert ask(fitted) == answer


def test_answers_about_the_run_are_read_only(fitted: Trainer) -> None:
    for name in ("current_epoch", "global_step", "callback_metrics", "world_size", "max_epochs", "log_dir"):
        with pytest.raises(AttributeError):
            setattr(fitted, name, None)


def test_the_last_batch_is_known_before_and_after_its_step(trainer: Any) -> None:
    seen: list[tuple[str, int, bool]] = []

    class Ask(Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
            seen.append(("start", batch_idx, trainer.is_last_batch))

        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            seen.append(("end", batch_idx, trainer.is_last_batch))

    trainer(max_epochs=2, callbacks=[Ask()]).fit(Classifier(), make_loader(12))
    assert seen == 2 * [(when, i, i == 2) for i in range(3) for when in ("start", "end")]


class Stages(Classifier):
    """Notes in every step which of a trainer's stages are on."""

    def __init__(self) -> None:
        super().__init__()
        self.on: dict[str, set[str]] = {}

    def note(self, step: str) -> None:
        names = ("training", "sanity_checking", "validating", "testing", "predicting", "evaluating")
        self.on.setdefault(step, set()).update(name for name in names if getattr(self.trainer, name))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.note("train")
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.note("sanity" if self.trainer.sanity_checking else "validation")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.note("test")

    def predict_step(self, batch: Any, batch_idx: int) -> None:
        self.note("predict")


def test_a_step_can_ask_in_which_stage_it_runs(trainer: Any) -> None:
    module, run = Stages(), trainer(max_epochs=2)
    run.fit(module, make_loader(8), make_loader(4))
    expected = {
        "sanity": {"sanity_checking", "evaluating"},
        "train": {"training"},
        "validation": {"validating", "evaluating"},
    }
    assert module.on == expected
    module.on.clear()
    run.validate(module, make_loader(4), verbose=False)
    run.test(module, make_loader(4), verbose=False)
    run.predict(module, make_loader(4))
    assert module.on == {
        "validation": {"validating", "evaluating"},
        "test": {"testing", "evaluating"},
        "predict": {"predicting"},
    }
