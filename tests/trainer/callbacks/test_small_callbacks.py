"""Timer, accumulation by epoch, prediction writers, functions as callbacks, spikes."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.trainer.samples import Classifier, make_loader

from blixt.fabric import ConfigError
from blixt.trainer import (
    BasePredictionWriter,
    Callback,
    GradientAccumulationScheduler,
    LambdaCallback,
    ModelCheckpoint,
    SpikeDetection,
    Timer,
    TrainingSpikeException,
)

# --- Timer ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "duration", ["00:00:01:30", "90s", "1.5min", timedelta(seconds=90), {"minutes": 1, "seconds": 30}]
)
def test_a_duration_may_be_given_in_many_forms(duration: Any) -> None:
    assert Timer(duration).time_remaining() == 90.0


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_training_ends_when_the_time_is_up(trainer: Any, interval: Any) -> None:
    timer = Timer(timedelta(0), interval=interval)
    made = trainer(max_epochs=5, callbacks=[timer])
    made.fit(Classifier(), make_loader(), make_loader(8))
    # Nothing is left at the beginning, so no step is made at all.
    assert made.global_step == 0


def test_the_clock_decides_after_a_step_or_after_an_epoch(trainer: Any) -> None:
    class Over(Timer):
        def time_remaining(self, stage: Any = "train") -> float:
            return -1.0 if self.start_time() is not None else 1.0

    for interval, steps in (("step", 1), ("epoch", 10)):
        made = trainer(max_epochs=5, callbacks=[Over("1h", interval=interval)])  # type: ignore[arg-type]
        made.fit(Classifier(), make_loader())
        assert made.global_step == steps


def test_it_measures_every_stage_and_counts_the_time_before_a_resume(trainer: Any, tmp_path: Path) -> None:
    timer, saver = Timer(), ModelCheckpoint(tmp_path)
    made = trainer(enable_checkpointing=True, max_epochs=1, callbacks=[timer, saver])
    made.fit(Classifier(), make_loader(), make_loader(8))
    made.test(Classifier(), make_loader(8), verbose=False)
    assert all(timer.time_elapsed(stage) > 0 for stage in ("train", "validate", "test"))
    assert timer.time_remaining() is None
    assert timer.start_time("train") < timer.end_time("train")
    kept = torch.load(saver.best_model_path)["callbacks"]["Timer"]["time_elapsed"]["train"]
    resumed = Timer()
    trainer(max_epochs=2, callbacks=[resumed]).fit(
        Classifier(), make_loader(), ckpt_path=saver.best_model_path
    )
    assert resumed.time_elapsed() > kept > 0


def test_a_timer_needs_a_known_interval() -> None:
    with pytest.raises(ConfigError, match="Use 'step' or 'epoch'"):
        Timer("1h", interval="day")  # type: ignore[arg-type]


# --- accumulation ---------------------------------------------------------------------------------


def test_batches_of_a_step_follow_the_epoch(trainer: Any) -> None:
    made = trainer(max_epochs=4, callbacks=[GradientAccumulationScheduler({1: 2, 3: 5})])
    made.fit(Classifier(), make_loader())
    assert made.global_step == 10 + 5 + 5 + 2


def test_a_loss_is_divided_by_as_many_batches_as_are_accumulated(trainer: Any) -> None:
    class Looks(Callback):
        def __init__(self) -> None:
            self.shares: list[float] = []

        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            self.shares.append(round(module.losses[-1] / float(outputs["loss"])))

    looks = Looks()
    trainer(max_epochs=2, callbacks=[GradientAccumulationScheduler({1: 2}), looks]).fit(
        Classifier(), make_loader(16)
    )
    assert looks.shares == [1, 1, 1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("scheduling", [{}, {-1: 2}, {0: 0}, {0: 1.5}, {"0": 2}])
def test_a_schedule_that_cannot_work_is_refused(scheduling: Any) -> None:
    with pytest.raises(ConfigError, match="scheduling"):
        GradientAccumulationScheduler(scheduling)


def test_a_trainer_that_accumulates_by_itself_is_refused(trainer: Any) -> None:
    made = trainer(accumulate_grad_batches=3, callbacks=[GradientAccumulationScheduler({0: 2})], max_epochs=1)
    with pytest.raises(ConfigError, match="Leave one of the two out"):
        made.fit(Classifier(), make_loader())


# --- predictions ----------------------------------------------------------------------------------


class Writes(BasePredictionWriter):
    def __init__(self, when: Any) -> None:
        super().__init__(when)
        self.batches: list[Any] = []
        self.epochs: list[Any] = []

    def write_on_batch_end(
        self,
        trainer: Any,
        pl_module: Any,
        prediction: Any,
        batch_indices: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        self.batches.append((dataloader_idx, batch_idx, batch_indices, tuple(prediction.shape)))

    def write_on_epoch_end(self, trainer: Any, pl_module: Any, predictions: Any, batch_indices: Any) -> None:
        self.epochs.append((predictions, batch_indices))


class Predicts(Classifier):
    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> torch.Tensor:
        return self(batch[0])


def test_a_writer_sees_each_batch_with_the_rows_it_holds(trainer: Any) -> None:
    writer = Writes("batch")
    made = trainer(callbacks=[writer])
    assert made.predict(Predicts(), make_loader(10, shuffle=False), return_predictions=False) is None
    assert writer.batches == [
        (0, 0, [0, 1, 2, 3], (4, 2)),
        (0, 1, [4, 5, 6, 7], (4, 2)),
        (0, 2, [8, 9], (2, 2)),
    ]
    assert writer.epochs == []


def test_a_writer_gets_everything_at_the_end_a_list_a_loader(trainer: Any) -> None:
    writer = Writes("epoch")
    loaders = [make_loader(8, shuffle=False), make_loader(4, shuffle=False)]
    trainer(callbacks=[writer]).predict(Predicts(), loaders, return_predictions=False)
    (predictions, indices), *none = writer.epochs
    assert none == writer.batches == []
    assert [len(of_loader) for of_loader in predictions] == [2, 1]
    assert indices == [[[0, 1, 2, 3], [4, 5, 6, 7]], [[0, 1, 2, 3]]]
    trainer(callbacks=[writer]).predict(Predicts(), loaders[1], return_predictions=False)
    predictions, indices = writer.epochs[-1]
    assert [tuple(prediction.shape) for prediction in predictions] == [(4, 2)]
    assert indices == [[[0, 1, 2, 3]]]


def test_an_unknown_moment_to_write_is_refused() -> None:
    with pytest.raises(ConfigError, match="Use 'batch', 'epoch' or 'batch_and_epoch'"):
        Writes("sometimes")


# --- functions ------------------------------------------------------------------------------------


def test_functions_run_at_their_hooks(trainer: Any) -> None:
    seen: list[str] = []
    callback = LambdaCallback(
        on_train_start=lambda trainer, module: seen.append("start"),
        on_train_batch_end=lambda trainer, module, outputs, batch, batch_idx: seen.append(str(batch_idx)),
        on_exception=None,
    )
    trainer(max_epochs=1, limit_train_batches=2, callbacks=[callback]).fit(Classifier(), make_loader())
    assert seen == ["start", "0", "1"]


def test_a_function_for_no_hook_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(TypeError, match="on_train_start"):
        LambdaCallback(on_train_strat=print)


# --- spikes ---------------------------------------------------------------------------------------


class Spikes(Classifier):
    """The loss is what the list says."""

    def __init__(self, losses: list[float]) -> None:
        super().__init__()
        self.script = losses

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return 0.0 * self(batch[0]).sum() + self.script[batch_idx]


@pytest.mark.parametrize(
    ("losses", "options", "spike"),
    [
        ([1, 1, 1, 9, 1], {}, 3),
        ([1, 1, 1, 2.5, 1], {}, None),
        ([1, 1, 1, 2.5, 1], {"rtol": 1.0}, 3),
        ([1, 1, 1, 2.5, 1], {"rtol": 1.0, "atol": 5.0}, None),
        ([1, float("nan"), 1], {}, 1),
        ([1, float("nan"), 1], {"finite_only": False}, None),
        ([9, 9, 9, 1, 9], {"mode": "max", "rtol": 0.5}, 3),
        ([1, 9, 1], {"warmup": 2}, None),
    ],
)
def test_a_jump_of_the_loss_ends_the_run_and_names_the_batches(
    trainer: Any, tmp_path: Path, losses: list[float], options: Any, spike: int | None
) -> None:
    detection = SpikeDetection(**options)
    made = trainer(max_epochs=1, callbacks=[detection])
    module, loader = Spikes(losses), make_loader(4 * len(losses))
    if spike is None:
        made.fit(module, loader)
        return
    with pytest.raises(TrainingSpikeException) as caught:
        made.fit(module, loader)
    assert caught.value.batch_idx == spike
    assert json.loads((tmp_path / "skip_batches.json").read_text()) == [spike - 1, spike]


def test_spikes_are_judged_by_the_same_window_after_a_resume() -> None:
    before, after = SpikeDetection(window=3), SpikeDetection(window=3)
    before._window.extend([1.0, 2.0])
    before.last_val, before.bad_batches = 2.0, [4, 5]
    after.load_state_dict(before.state_dict())
    assert (list(after._window), after.last_val, after.bad_batches) == ([1.0, 2.0], 2.0, [4, 5])
