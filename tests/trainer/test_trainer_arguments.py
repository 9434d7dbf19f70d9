"""Every argument in every form; what cannot work is refused in a sentence."""

import inspect
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from blixt.fabric import ConfigError
from blixt.trainer import CSVLogger, DataModule, Interval, LearningRateMonitor, ModelCheckpoint, Trainer
from blixt.trainer.boring import BoringModel
from blixt.trainer.callbacks.timer import Timer

from .samples import Classifier, make_loader


def test_all_arguments_of_lightning_are_known() -> None:
    from lightning.pytorch import Trainer as Theirs

    theirs, ours = inspect.signature(Theirs).parameters, inspect.signature(Trainer).parameters
    assert set(theirs) - set(ours) == set()
    assert all(p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in ours.values())


def test_the_environment_stands_in_for_arguments_that_are_not_given(
    trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PL_TRAINER_MAX_EPOCHS", "7")
    monkeypatch.setenv("PL_TRAINER_VAL_CHECK_INTERVAL", "10min")
    monkeypatch.setenv("PL_TRAINER_LIMIT_VAL_BATCHES", "0.5")
    run = trainer(limit_val_batches=3)
    assert (run.max_epochs, run.config.val_check_s, run.limit_val_batches) == (7, 600.0, 3)
    monkeypatch.setenv("PL_TRAINER_MAX_EPOCH", "7")
    with pytest.warns(UserWarning, match="Did you mean 'max_epochs'"):
        trainer()


@pytest.mark.parametrize(
    ("given", "interval"),
    [
        ("0.5ep", Interval(0.5, "epochs")),
        ("2 ep", Interval(2.0, "epochs")),
        ("500ba", Interval(500, "batches")),
        ("90s", Interval(90.0, "seconds")),
        ("10min", Interval(600.0, "seconds")),
        ("1.5h", Interval(5400.0, "seconds")),
        ("1d", Interval(86400.0, "seconds")),
        ("00:01:30:00", Interval(5400.0, "seconds")),
        (timedelta(minutes=1), Interval(60.0, "seconds")),
        ({"hours": 1}, Interval(3600.0, "seconds")),
        (3, Interval(3, "batches")),
        (0.25, Interval(0.25, "epochs")),
        (Interval(1, "batches"), Interval(1, "batches")),
    ],
)
def test_an_interval_has_many_forms(given: Any, interval: Interval) -> None:
    assert Interval.parse(given) == interval


@pytest.mark.parametrize(
    "given", ["often", "1.5ba", "3 weeks", "1:2:3", 0, -1.0, True, {"fortnights": 1}, "0s"]
)
def test_what_is_no_interval_is_refused_with_examples(given: Any) -> None:
    with pytest.raises(ConfigError, match=r"Use e\.g\."):
        Interval.parse(given, "Trainer(val_check_interval)")


@pytest.mark.parametrize(
    ("interval", "settings"),
    [
        ("0.5ep", (0.5, None, 1)),
        ("2ep", (1.0, None, 2)),
        ("500ba", (500, None, None)),
        ({"minutes": 2}, (1.0, 120.0, 1)),
        (None, (1.0, None, 1)),
    ],
)
def test_validation_takes_every_interval(interval: Any, settings: Any, trainer: Any) -> None:
    config = trainer(val_check_interval=interval).config
    assert (config.val_check_interval, config.val_check_s, config.check_val_every_n_epoch) == settings


def test_validation_by_time_runs_within_epochs(trainer: Any) -> None:
    run = trainer(max_epochs=1, val_check_interval=timedelta(microseconds=1), num_sanity_val_steps=0)
    run.fit(Classifier(), make_loader(12), make_loader(4))
    assert run.counters.validations == 3


def test_a_maximal_time_brings_a_timer(trainer: Any) -> None:
    assert [type(c) for c in trainer(max_time="00:00:01:00").callbacks] == [Timer]
    assert trainer(max_time={"hours": 2}).max_epochs == -1


@pytest.mark.parametrize(
    "argument",
    [
        {"enable_checkpointing": True},
        {"logger": True},
        {"enable_progress_bar": True},
        {"enable_model_summary": True},
        {"log_every_n_steps": 5},
        {"num_sanity_val_steps": 2},
        {"fast_dev_run": True},
        {"detect_anomaly": True},
        {"profiler": "simple"},
    ],
)
def test_barebones_refuses_what_it_turns_off(argument: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="barebones=True turns off"):
        Trainer(accelerator="cpu", barebones=True, **argument)


def test_barebones_trains_with_nothing_around_it() -> None:
    run = Trainer(accelerator="cpu", devices=1, barebones=True, max_epochs=1)
    with pytest.warns(UserWarning, match="log"):
        run.fit(Classifier(), make_loader(8))
    assert (run.loggers, run.callbacks, run.callback_metrics, run.global_step) == ([], [], {}, 2)


def test_numerics_are_told_to_torch(trainer: Any) -> None:
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    try:
        trainer(deterministic="warn", benchmark=False)
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        trainer(deterministic=False, benchmark=True)
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.benchmark
        with pytest.warns(UserWarning, match="differs between runs"):
            trainer(deterministic=True, benchmark=True)
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


def test_loaders_are_made_anew_every_so_many_epochs(trainer: Any) -> None:
    class Counting(Classifier):
        made = 0

        def train_dataloader(self) -> Any:
            self.made += 1
            return make_loader(8)

    module = Counting()
    trainer(max_epochs=5, reload_dataloaders_every_n_epochs=2).fit(module)
    assert module.made == 3


def test_hyperparameters_are_only_logged_when_wanted(trainer: Any, tmp_path: Path) -> None:
    seen: list[Any] = []

    class Params(CSVLogger):
        def log_hyperparams(self, params: Any = None, *args: Any, **kwargs: Any) -> None:
            seen.append(params)

    for wanted in (True, False):
        seen.clear()
        logger = Params(tmp_path)
        trainer(max_epochs=1, logger=logger, enable_autolog_hparams=wanted).fit(Classifier(), make_loader(4))
        assert bool(seen) == wanted


class Rows(DataModule):
    def __init__(self, dropout: float = 0.2, rows: int = 4) -> None:
        super().__init__()
        self.save_hyperparameters()

    def train_dataloader(self) -> Any:
        return make_loader(self.hparams.rows)


class Drawn(CSVLogger):
    """Remembers what a fit gives it before its first batch."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.given: list[Any] = []

    def log_hyperparams(self, params: Any = None, *args: Any, **kwargs: Any) -> None:
        self.given.append(dict(params))

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        self.given.append(model)
        torch.rand(())


def test_loggers_get_the_hyper_parameters_of_both_and_may_draw_the_model(
    trainer: Any, tmp_path: Path
) -> None:
    module, logger = Classifier(), Drawn(tmp_path)
    before = torch.get_rng_state()
    trainer(max_steps=1, logger=logger, num_sanity_val_steps=0, limit_train_batches=0).fit(
        module, datamodule=Rows()
    )
    assert logger.given == [{"dropout": 0.2, "rows": 4, "learning_rate": 0.05}, module]
    assert torch.equal(torch.get_rng_state(), before)


def test_one_name_for_two_hyper_parameters_is_refused(trainer: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="other values under dropout") as error:
        trainer(max_steps=1, logger=Drawn(tmp_path)).fit(Classifier(), datamodule=Rows(dropout=0.5))
    assert isinstance(error.value, RuntimeError)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"model_registry": "mine"}, "belongs to Lightning's cloud"),
        ({"compile": "fast"}, "says nothing about compiling"),
        ({"callbacks": [ModelCheckpoint()], "enable_checkpointing": False}, "Leave one of the two out"),
        ({"val_check_interval": "1.5ep"}, "whole number of them"),
        ({"gradient_clip_val": -1.0}, "a positive number"),
        ({"reload_dataloaders_every_n_epochs": -1}, "at least 0"),
        ({"profiler": "simpel"}, "simple"),
        ({"strategy": "ddq"}, "ddp"),
        ({"precision": "8-bits"}, "precision"),
    ],
)
def test_what_cannot_work_is_refused(options: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Trainer(accelerator="cpu", **options)


def test_arguments_that_may_change_are_attributes(trainer: Any) -> None:
    run = trainer(max_epochs=1)
    run.limit_train_batches = 2
    run.fit_loop.max_epochs = 2
    run.fit(Classifier(), make_loader())
    assert run.global_step == 4
    run.fit_loop.max_epochs = 3
    run.fit(Classifier(), make_loader())
    assert (run.global_step, run.current_epoch) == (6, 3)
    with pytest.raises(ConfigError, match="a number of batches"):
        run.limit_val_batches = 1.5


def test_a_look_at_a_program_needs_no_logger_and_leaves_nothing(tmp_path: Path) -> None:
    class Drawing(BoringModel):
        def on_train_start(self) -> None:
            self.logger.experiment.add_text("name", "value")

    watching = [LearningRateMonitor(), ModelCheckpoint(monitor="never", save_last=True)]
    run = Trainer(
        accelerator="cpu", devices=1, fast_dev_run=True, callbacks=watching, default_root_dir=tmp_path
    )
    run.fit(Drawing())
    assert [type(logger).__name__ for logger in run.loggers] == ["DummyLogger"]
    assert run.checkpoint_callback is watching[1]
    assert list(tmp_path.iterdir()) == []
