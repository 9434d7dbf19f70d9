"""When training stops early, and what of it survives a resume."""

from typing import Any

import pytest
import torch
from tests.trainer.samples import Classifier, make_loader

from blixt.fabric import ConfigError
from blixt.trainer import EarlyStopping, EarlyStoppingReason, ModelCheckpoint


class Scripted(Classifier):
    """Logs given values in validation, or in training, one an epoch."""

    def __init__(self, values: list[float], where: str = "validation") -> None:
        super().__init__()
        self.values = values
        self.where = where

    def on_validation_epoch_end(self) -> None:
        if self.where == "validation" and not self.trainer.sanity_checking:
            self.log("score", self.values[self.current_epoch])

    def on_train_epoch_end(self) -> None:
        if self.where == "train":
            self.log("score", self.values[self.current_epoch])


def stopped_after(trainer: Any, values: list[float], where: str = "validation", **options: Any) -> Any:
    callback = EarlyStopping("score", **options)
    made = trainer(max_epochs=len(values), callbacks=[callback])
    made.fit(Scripted(values, where), make_loader(), make_loader(8))
    return made.current_epoch, callback


@pytest.mark.parametrize("where", ["validation", "train"])
@pytest.mark.parametrize(
    ("values", "options", "epochs", "reason"),
    [
        ([5, 4, 4, 4, 3], {"patience": 2}, 4, EarlyStoppingReason.PATIENCE_EXHAUSTED),
        ([5, 4, 3, 2, 1], {"patience": 1}, 5, EarlyStoppingReason.NOT_STOPPED),
        ([5, 4.9, 4.8, 4.7], {"patience": 2, "min_delta": 1.0}, 3, EarlyStoppingReason.PATIENCE_EXHAUSTED),
        ([1, 2, 3, 2.9, 2.8], {"mode": "max", "patience": 2}, 5, EarlyStoppingReason.PATIENCE_EXHAUSTED),
        ([5, 4, 0.5, 0.1], {"stopping_threshold": 1.0}, 3, EarlyStoppingReason.STOPPING_THRESHOLD),
        ([5, 9, 1, 1], {"divergence_threshold": 8.0}, 2, EarlyStoppingReason.DIVERGENCE_THRESHOLD),
        ([5, float("nan"), 1], {}, 2, EarlyStoppingReason.NON_FINITE_METRIC),
        ([5, float("nan"), 1], {"check_finite": False}, 3, EarlyStoppingReason.NOT_STOPPED),
    ],
)
def test_it_stops_for_the_reason_it_says(
    trainer: Any, where: str, values: list[float], options: Any, epochs: int, reason: EarlyStoppingReason
) -> None:
    ran, callback = stopped_after(trainer, values, where, **options)
    assert (ran, callback.stopping_reason) == (epochs, reason)
    assert (callback.stopping_reason_message is None) == (reason is EarlyStoppingReason.NOT_STOPPED)


def test_within_an_epoch_every_validation_counts(trainer: Any) -> None:
    class Stuck(Classifier):
        def on_validation_epoch_end(self) -> None:
            self.log("score", 1.0)

    callback = EarlyStopping("score", patience=2)
    made = trainer(max_epochs=5, callbacks=[callback], val_check_interval=2)
    made.fit(Stuck(), make_loader(), make_loader(8))
    assert made.global_step == 6  # the first of three validations was better than nothing


def test_min_epochs_win(trainer: Any) -> None:
    callback = EarlyStopping("score", patience=1)
    made = trainer(max_epochs=6, min_epochs=4, callbacks=[callback])
    made.fit(Scripted([1.0] * 6), make_loader(), make_loader(8))
    assert made.current_epoch == 4


def test_a_missing_metric_is_an_error_unless_it_need_not_be_there(trainer: Any) -> None:
    with pytest.raises(ConfigError, match="val_loss"):
        trainer(max_epochs=1, callbacks=[EarlyStopping("val_los")]).fit(
            Classifier(), make_loader(), make_loader(8)
        )
    relaxed = EarlyStopping("val_los", strict=False, verbose=True)
    with pytest.warns(RuntimeWarning, match="val_los"):
        trainer(max_epochs=1, callbacks=[relaxed]).fit(Classifier(), make_loader(), make_loader(8))


def test_it_tells_what_happens_when_asked_to(trainer: Any, capsys: Any) -> None:
    stopped_after(trainer, [1.0, 0.5, 0.5], patience=1, verbose=True)
    said = capsys.readouterr().out
    assert "score is better: 0.5 (before: 1)" in said
    assert "score did not improve on 0.5 in 1 checks" in said


def test_a_resumed_run_is_as_patient_as_the_one_before(trainer: Any, tmp_path: Any) -> None:
    values = [3.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    saver, first = ModelCheckpoint(tmp_path, save_last=True), EarlyStopping("score", patience=3)
    trainer(enable_checkpointing=True, max_epochs=3, callbacks=[saver, first]).fit(
        Scripted(values), make_loader(), make_loader(8)
    )
    kept = torch.load(saver.last_model_path)["callbacks"]["EarlyStopping{'monitor': 'score', 'mode': 'min'}"]
    assert kept == first.state_dict()
    assert kept["wait_count"] == 1
    second = EarlyStopping("score", patience=3)
    made = trainer(max_epochs=6, callbacks=[second])
    made.fit(Scripted(values), make_loader(), make_loader(8), ckpt_path=saver.last_model_path)
    assert made.current_epoch == 5
    assert second.stopping_reason is EarlyStoppingReason.PATIENCE_EXHAUSTED


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ConfigError, match="Use 'min' or 'max'"):
        EarlyStopping("loss", mode="least")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "values", "epochs"),
    [
        ({"divergence_threshold": 0.6}, [0.5, 0.6, 0.75, 0.1], 3),
        ({"stopping_threshold": 0.7, "mode": "max"}, [0.5, 0.7, 0.75, 0.9], 3),
        ({"min_delta": 0.1, "patience": 1}, [0.6, 0.5, 0.4, 0.3], 2),
    ],
)
def test_a_value_that_is_the_threshold_is_not_beyond_it(
    options: dict[str, Any], values: list[float], epochs: int, trainer: Any
) -> None:
    class Told(Classifier):
        def on_train_epoch_end(self) -> None:
            self.log("m", values[self.current_epoch])

    run = trainer(max_epochs=4, callbacks=EarlyStopping("m", **options))
    run.fit(Told(), make_loader(4))
    assert run.current_epoch == epochs
