"""What a module must bring, and what nobody calls any more: said before anything runs."""

import warnings
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from blixt.fabric import ConfigError
from blixt.trainer import CSVLogger, LearningRateMonitor, ModelCheckpoint, Trainer
from blixt.trainer.boring import BoringModel, ManualOptimBoringModel, RandomDataset
from blixt.trainer.complete import FormerHookError
from blixt.trainer.summary import ModelSummary

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


def quiet(**more: Any) -> Trainer:
    return Trainer(**{**QUIET, "fast_dev_run": 1, **more})


@pytest.mark.parametrize(
    ("missing", "call"),
    [
        ("training_step", "fit"),
        ("configure_optimizers", "fit"),
        ("validation_step", "validate"),
        ("test_step", "test"),
        ("predict_step", "predict"),
        ("forward", "predict"),
    ],
)
def test_a_step_that_was_set_to_none_is_missed_by_the_call_that_needs_it(missing: str, call: str) -> None:
    model = BoringModel()
    setattr(model, missing, None)
    with pytest.raises(ConfigError, match=rf"{call}\(model='BoringModel'\)"):
        getattr(quiet(), call)(model)


@pytest.mark.parametrize(
    ("hook", "call", "instead"),
    [
        ("training_epoch_end", "fit", "on_train_epoch_end"),
        ("validation_epoch_end", "fit", "on_validation_epoch_end"),
        ("validation_epoch_end", "validate", "on_validation_epoch_end"),
        ("test_epoch_end", "test", "on_test_epoch_end"),
        ("configure_sharded_model", "fit", "Rename it to configure_model"),
        ("configure_sharded_model", "test", "Rename it to configure_model"),
    ],
)
def test_a_hook_of_before_lightning_2_is_refused_with_what_to_write(
    hook: str, call: str, instead: str
) -> None:
    model = type("Old", (BoringModel,), {hook: lambda self, outputs: None})()  # pyright: ignore
    with pytest.raises(FormerHookError, match=instead) as raised:
        getattr(quiet(), call)(model)
    assert isinstance(raised.value, NotImplementedError)


def test_batches_that_no_step_validates_are_told() -> None:
    model = BoringModel()
    model.validation_step = None  # type: ignore[assignment, method-assign]
    with pytest.warns(UserWarning, match="fit will not validate: .* has no validation_step"):
        quiet().fit(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)  # of whatever the collector finds now
        quiet(limit_val_batches=0, fast_dev_run=False, max_steps=1).fit(model)


@pytest.mark.parametrize("hook", ["on_predict_batch_start", "on_predict_batch_end"])
@pytest.mark.parametrize(("extra", "loaders"), [("dataloader_idx", 1), ("", 2), ("**rest", 2)])
def test_a_batch_hook_that_cannot_be_called_is_named_before_the_first_batch(
    hook: str, extra: str, loaders: int
) -> None:
    first = "outputs, batch, batch_idx" if hook.endswith("end") else "batch, batch_idx"
    made: dict[str, Any] = {}
    exec(f"def method(self, {first}{', ' if extra else ''}{extra}): pass", made)
    model = type("Odd", (BoringModel,), {hook: made["method"]})()
    data = [DataLoader(RandomDataset(32, 2)) for _ in range(loaders)]
    with pytest.raises(ConfigError, match=rf"{hook}\(.*dataloader_idx"):
        quiet().predict(model, data)


@pytest.mark.parametrize("extra", ["dataloader_idx=0", "*rest"])
def test_a_batch_hook_that_takes_any_number_of_loaders_is_fine(extra: str) -> None:
    made: dict[str, Any] = {}
    exec(f"def method(self, batch, batch_idx, {extra}): pass", made)
    model = type("Fine", (BoringModel,), {"on_predict_batch_start": made["method"]})()
    for count in (1, 2):
        quiet().predict(model, [DataLoader(RandomDataset(32, 2)) for _ in range(count)])


def test_predictions_stay_at_the_loop_until_the_next_call() -> None:
    trainer = quiet()
    found = trainer.predict(BoringModel())
    assert found is not None
    assert trainer.predict_loop.predictions is found
    trainer.predict(BoringModel(), return_predictions=False)
    assert trainer.predict_loop.predictions == []


def test_learning_rates_of_two_optimizers_stepped_by_hand_are_taken_with_the_rows(tmp_path: Any) -> None:
    class Two(ManualOptimBoringModel):
        def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
            for optimizer in self.optimizers():  # type: ignore[union-attr]
                optimizer.zero_grad()
                self.manual_backward(self.step(batch))
                optimizer.step()

        def configure_optimizers(self) -> Any:
            return [torch.optim.Adam(self.parameters()) for _ in range(2)]

    monitor = LearningRateMonitor(logging_interval="step")
    more = {"logger": CSVLogger(tmp_path), "callbacks": [monitor], "log_every_n_steps": 2}
    quiet(**more, fast_dev_run=False, max_epochs=2, limit_train_batches=7, limit_val_batches=0).fit(Two())
    assert {name: len(values) for name, values in monitor.lrs.items()} == {"lr-Adam": 7, "lr-Adam-1": 7}


@pytest.mark.parametrize("interval", [None, "epoch", "step"])
def test_one_cycle_that_steps_by_the_epoch_is_asked_about_unless_it_is_said(interval: str | None) -> None:
    class Model(BoringModel):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=9)
            return [optimizer], [{"scheduler": cycle, **({"interval": interval} if interval else {})}]

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        quiet().fit(Model())
    assert any("OneCycleLR steps once an epoch" in str(each.message) for each in told) == (interval is None)


def test_loggers_get_the_hyper_parameters_that_the_module_was_made_with(tmp_path: Any) -> None:
    class Model(BoringModel):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.save_hyperparameters()

    model = Model(3)
    model.hparams["width"] = -1
    logger = CSVLogger(tmp_path)
    quiet(logger=logger, fast_dev_run=False, max_steps=1, limit_val_batches=0).fit(model)
    assert logger.hparams == {"width": 3}


def test_a_summary_names_what_it_cannot_know() -> None:
    with pytest.raises(ConfigError, match="max_depth='deep'"):
        ModelSummary(torch.nn.Linear(1, 1), max_depth="deep")  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="UninitializedParameter"):
        assert ModelSummary(torch.nn.Sequential(torch.nn.LazyLinear(2))).total_parameters == 0


def test_an_empty_folder_for_checkpoints_is_none() -> None:
    assert ModelCheckpoint(dirpath="").dirpath is None


def test_a_method_that_looks_like_a_misspelt_hook_is_named(trainer: Any) -> None:
    class Misspelt(BoringModel):
        def validation_steps(self, batch: Any, batch_idx: int) -> None: ...

        def on_train_epoch_ends(self) -> None: ...

        def train_step(self, batch: Any) -> None:
            """A helper, whose name is no hook's."""

        validation_step = None  # type: ignore[assignment]

    with pytest.warns(UserWarning, match="Nobody calls") as told:
        trainer(max_steps=1).fit(Misspelt(), val_dataloaders=None)
    said = [str(each.message) for each in told if "Nobody calls" in str(each.message)]
    assert [text.split(".")[1] for text in said] == ["on_train_epoch_ends", "validation_steps"]
    assert "If on_train_epoch_end is meant" in said[0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_told_once_a_fit(trainer: Any, value: float) -> None:
    class Lost(BoringModel):
        def training_step(self, batch: Any, batch_idx: int) -> Any:  # type: ignore[override]
            return self.layer(batch).sum() * (value if self.current_epoch else 1.0)

    with pytest.warns(UserWarning, match="is no finite number") as told:
        trainer(max_epochs=3, limit_train_batches=2, limit_val_batches=0).fit(Lost())
    assert sum("batch 1 in epoch 1" in str(each.message) for each in told) == 1
    assert sum("no finite number" in str(each.message) for each in told) == 1
