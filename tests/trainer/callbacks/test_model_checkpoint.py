"""Which checkpoints are kept, when they are saved, and how they are called."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.trainer.samples import Classifier, make_loader

from blixt.fabric import ConfigError
from blixt.trainer import Callback, ModelCheckpoint, Module, OnExceptionCheckpoint
from blixt.trainer.callbacks.checkpoint_files import first_free, may_remove
from blixt.trainer.callbacks.ranking import Ranking


class Scripted(Classifier):
    """Logs given values in validation, one after the other."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.values = values
        self.validated_at: list[int] = []

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            self.log("score", self.values[len(self.validated_at)])
            self.validated_at.append(self.trainer.global_step)


def fit(trainer: Any, callback: ModelCheckpoint, module: Module | None = None, **options: Any) -> Any:
    made = trainer(enable_checkpointing=True, callbacks=[callback], **{"max_epochs": 3, **options})
    made.fit(module if module is not None else Classifier(), make_loader(), make_loader(8))
    return made


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def step_of(path: str) -> int:
    return torch.load(path)["global_step"]


# --- what is kept ---------------------------------------------------------------------------------


def test_without_a_monitor_the_newest_is_kept_under_the_default_name(trainer: Any, tmp_path: Path) -> None:
    callback = ModelCheckpoint(tmp_path / "c")
    fit(trainer, callback)
    assert names(tmp_path / "c") == ["epoch=2-step=30.ckpt"]
    assert callback.best_model_path.endswith("epoch=2-step=30.ckpt")
    assert callback.best_model_score is None


def test_the_default_folder_is_checkpoints_beside_the_logs(trainer: Any, tmp_path: Path) -> None:
    callback = ModelCheckpoint()
    fit(trainer, callback, max_epochs=1)
    assert callback.dirpath == str(tmp_path / "checkpoints")


@pytest.mark.parametrize(("mode", "best", "worst"), [("min", 0.2, 0.4), ("max", 0.6, 0.5)])
def test_the_best_k_are_kept_and_told(
    trainer: Any, tmp_path: Path, mode: Any, best: float, worst: float
) -> None:
    values = [0.5, 0.4, 0.6, 0.2]
    callback = ModelCheckpoint(tmp_path / "c", "{epoch}", monitor="score", save_top_k=2, mode=mode)
    fit(trainer, callback, Scripted(values), max_epochs=4)
    assert float(callback.best_model_score or 0) == pytest.approx(best)
    assert callback.best_model_path == str(tmp_path / "c" / f"epoch={values.index(best)}.ckpt")
    assert float(callback.kth_value) == pytest.approx(worst)
    assert callback.kth_best_model_path == str(tmp_path / "c" / f"epoch={values.index(worst)}.ckpt")
    assert sorted(callback.best_k_models) == [str(tmp_path / "c" / name) for name in names(tmp_path / "c")]


def test_top_k_of_minus_one_keeps_all_and_zero_none(trainer: Any, tmp_path: Path) -> None:
    fit(trainer, ModelCheckpoint(tmp_path / "all", save_top_k=-1))
    fit(trainer, ModelCheckpoint(tmp_path / "none", save_top_k=0))
    assert len(names(tmp_path / "all")) == 3
    assert not (tmp_path / "none").exists()


def test_a_metric_that_is_not_a_number_counts_as_the_worst(trainer: Any, tmp_path: Path) -> None:
    callback = ModelCheckpoint(tmp_path, "{epoch}", monitor="score", save_top_k=1)
    fit(trainer, callback, Scripted([float("nan"), 0.5, float("nan")]))
    assert names(tmp_path) == ["epoch=1.ckpt"]


def test_last_is_saved_whatever_the_ranking_says(trainer: Any, tmp_path: Path) -> None:
    callback = ModelCheckpoint(tmp_path, "{epoch}", monitor="score", save_last=True)
    fit(trainer, callback, Scripted([0.1, 0.2, 0.3]))
    assert names(tmp_path) == ["epoch=0.ckpt", "last.ckpt"]
    assert step_of(callback.last_model_path) == 30


def test_last_as_a_link_points_to_the_newest_and_never_into_the_void(trainer: Any, tmp_path: Path) -> None:
    class Looks(Callback):
        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            if trainer.current_epoch:
                assert (tmp_path / "last.ckpt").exists()

    callback = ModelCheckpoint(tmp_path, "{epoch}", monitor="score", save_last="link", save_top_k=2)
    made = trainer(enable_checkpointing=True, callbacks=[callback, Looks()], max_epochs=4)
    made.fit(Scripted([0.5, 0.6, 0.4, 0.9]), make_loader(), make_loader(8))
    assert os.readlink(callback.last_model_path) == "epoch=2.ckpt"  # the last epoch was not among the best
    assert step_of(callback.last_model_path) == 30


@pytest.mark.parametrize("monitor", [None, "score"])
def test_a_ranked_file_names_itself_as_the_newest(trainer: Any, tmp_path: Path, monitor: str | None) -> None:
    callback = ModelCheckpoint(tmp_path, "{epoch}", monitor=monitor, save_last=True, save_top_k=1)
    fit(trainer, callback, Scripted([0.5, 0.4]), max_epochs=2)
    states = [torch.load(tmp_path / name)["callbacks"][callback.state_key] for name in names(tmp_path)]
    assert states[0] == states[1]
    assert states[0]["newest"] == str(tmp_path / "epoch=1.ckpt")


def test_a_derived_callback_may_set_what_is_ranked(tmp_path: Path) -> None:
    callback = ModelCheckpoint(tmp_path, monitor="score")
    callback.best_k_models = {"old.ckpt": torch.tensor(0.5)}
    assert callback.state_dict()["best_k_models"] == {"old.ckpt": torch.tensor(0.5)}


def test_without_a_ranking_there_is_nothing_to_link_to(trainer: Any, tmp_path: Path) -> None:
    callback = ModelCheckpoint(tmp_path, save_last="link", save_top_k=0)
    fit(trainer, callback, max_epochs=2)
    assert not os.path.islink(callback.last_model_path)
    assert step_of(callback.last_model_path) == 20


def test_save_weights_only_leaves_out_what_resuming_needs(trainer: Any, tmp_path: Path) -> None:
    callback = ModelCheckpoint(tmp_path, save_weights_only=True)
    fit(trainer, callback, max_epochs=1)
    assert "optimizer_states" not in torch.load(callback.best_model_path)


# --- when -----------------------------------------------------------------------------------------


def test_every_n_steps_counts_optimizer_steps(trainer: Any, tmp_path: Path) -> None:
    fit(trainer, ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=4), max_epochs=1)
    assert names(tmp_path) == ["step=4.ckpt", "step=8.ckpt"]


def test_every_n_epochs_counts_from_the_end_of_the_first(trainer: Any, tmp_path: Path) -> None:
    fit(trainer, ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, every_n_epochs=2), max_epochs=5)
    assert names(tmp_path) == ["epoch=1.ckpt", "epoch=3.ckpt"]


def test_an_interval_of_no_time_saves_after_every_step(trainer: Any, tmp_path: Path) -> None:
    callback = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, train_time_interval=timedelta(0))
    fit(trainer, callback, max_epochs=1)
    assert len(names(tmp_path)) == 10


def test_an_interval_longer_than_the_run_saves_nothing(trainer: Any, tmp_path: Path) -> None:
    fit(trainer, ModelCheckpoint(tmp_path / "c", train_time_interval="2h"), max_epochs=1)
    assert not (tmp_path / "c").exists()


def test_a_step_that_validates_saves_after_validation_with_the_fresh_metric(
    trainer: Any, tmp_path: Path
) -> None:
    module = Scripted([0.5, 0.4])
    callback = ModelCheckpoint(tmp_path, "{step}-{score}", "score", save_top_k=-1, every_n_train_steps=5)
    fit(trainer, callback, module, max_epochs=1, val_check_interval=5)
    assert names(tmp_path) == ["step=10-score=0.4000000059604645.ckpt", "step=5-score=0.5.ckpt"]


def test_a_monitor_from_validation_is_never_older_than_the_weights(trainer: Any, tmp_path: Path) -> None:
    module = Scripted([0.5, 0.4, 0.3])
    callback = ModelCheckpoint(tmp_path, "{step}", monitor="score", save_top_k=2, every_n_train_steps=3)
    fit(trainer, callback, module)
    assert module.validated_at == [10, 20, 30]
    assert names(tmp_path) == ["step=20.ckpt", "step=30.ckpt"]
    assert {step_of(path) for path in callback.best_k_models} <= set(module.validated_at)


def test_keeping_all_saves_on_time_and_ranks_only_what_was_measured(trainer: Any, tmp_path: Path) -> None:
    callback = ModelCheckpoint(tmp_path, "{step}", monitor="score", save_top_k=-1, every_n_train_steps=4)
    fit(trainer, callback, Scripted([0.5, 0.6]), max_epochs=2)
    assert {"step=12.ckpt", "step=16.ckpt", "step=20.ckpt"} <= set(names(tmp_path))
    assert callback.best_model_path.endswith("step=10.ckpt")


def test_validation_within_the_epoch_saves_after_each(trainer: Any, tmp_path: Path) -> None:
    callback = ModelCheckpoint(tmp_path, "{step}", monitor="score", save_top_k=-1)
    fit(trainer, callback, Scripted([0.5, 0.4]), max_epochs=1, val_check_interval=0.5)
    assert names(tmp_path) == ["step=10.ckpt", "step=5.ckpt"]


def test_an_error_saves_what_was_reached_when_asked_for(trainer: Any, tmp_path: Path) -> None:
    class Fails(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            if batch_idx == 4:
                raise ValueError("no more")
            return super().training_step(batch, batch_idx)

    saver = OnExceptionCheckpoint(tmp_path / "own")
    callbacks = [ModelCheckpoint(tmp_path / "c", save_on_exception=True), saver]
    with pytest.raises(ValueError, match="no more"):
        trainer(enable_checkpointing=True, callbacks=callbacks).fit(Fails(), make_loader())
    assert names(tmp_path / "c") == ["epoch=0-step=4.ckpt"]
    assert step_of(saver.ckpt_path) == 4
    assert saver.ckpt_path == str(tmp_path / "own" / "on_exception.ckpt")


def test_a_dry_run_saves_nothing(trainer: Any, tmp_path: Path) -> None:
    fit(trainer, ModelCheckpoint(tmp_path / "c", save_last=True), fast_dev_run=2)
    assert not (tmp_path / "c").exists()


# --- names ----------------------------------------------------------------------------------------


def test_names_may_hold_metrics_with_slashes_and_formats(tmp_path: Path) -> None:
    metrics = {"epoch": 1, "step": 7, "val/acc": torch.tensor(0.25)}
    namer = ModelCheckpoint(tmp_path, "e{epoch:02d}-{val/acc:.2f}", auto_insert_metric_name=False)
    assert namer.format_checkpoint_name(metrics) == str(tmp_path / "e01-0.25.ckpt")
    assert ModelCheckpoint().format_checkpoint_name(metrics) == "epoch=1-step=7.ckpt"
    assert ModelCheckpoint().format_checkpoint_name(metrics, "{missing:d}", ver=3) == "missing=0-v3.ckpt"
    assert ModelCheckpoint().format_checkpoint_name(metrics, prefix="x") == "x-epoch=1-step=7.ckpt"


def test_files_of_another_run_get_company_or_are_overwritten(trainer: Any, tmp_path: Path) -> None:
    for _ in range(2):
        fit(trainer, ModelCheckpoint(tmp_path / "a", "same", save_last=True), max_epochs=1)
        fit(trainer, ModelCheckpoint(tmp_path / "b", "same", enable_version_counter=False), max_epochs=1)
    assert names(tmp_path / "a") == ["last-v1.ckpt", "last.ckpt", "same-v1.ckpt", "same.ckpt"]
    assert names(tmp_path / "b") == ["same.ckpt"]


def test_the_scores_can_be_written_as_yaml(trainer: Any, tmp_path: Path) -> None:
    callback = ModelCheckpoint(tmp_path, "{epoch}", monitor="score", save_top_k=2)
    fit(trainer, callback, Scripted([0.5, 0.25, 0.75]))
    callback.to_yaml()
    lines = (tmp_path / "best_k_models.yaml").read_text().splitlines()
    assert lines == [f"{tmp_path}/epoch=0.ckpt: 0.5", f"{tmp_path}/epoch=1.ckpt: 0.25"]


def test_checkpoints_go_to_urls_and_leave_them_again(trainer: Any) -> None:
    import fsspec

    callback = ModelCheckpoint("memory://bucket/run", "{epoch}", monitor="score")
    fit(trainer, callback, Scripted([0.5, 0.4, 0.6]))
    found = [Path(path).name for path in fsspec.filesystem("memory").ls("/bucket/run", detail=False)]
    assert found == ["epoch=1.ckpt"]
    assert callback.best_model_path == "memory://bucket/run/epoch=1.ckpt"


# --- resuming -------------------------------------------------------------------------------------


def test_a_resumed_run_goes_on_ranking_and_removes_what_lost(trainer: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"monitor": "score", "save_top_k": 2, "save_last": True}
    first = ModelCheckpoint(tmp_path, "{epoch}", **options)
    fit(trainer, first, Scripted([0.5, 0.4]), max_epochs=2)
    second = ModelCheckpoint(tmp_path, "{epoch}", **options)
    resumed = trainer(enable_checkpointing=True, callbacks=[second], max_epochs=4)
    resumed.fit(Scripted([0.3, 0.9]), make_loader(), make_loader(8), ckpt_path=first.last_model_path)
    assert names(tmp_path) == ["epoch=1.ckpt", "epoch=2.ckpt", "last.ckpt"]
    assert float(second.best_model_score or 0) == pytest.approx(0.3)
    assert step_of(second.last_model_path) == 40


def test_the_checkpoint_that_a_run_came_from_is_never_removed(trainer: Any, tmp_path: Path) -> None:
    first = ModelCheckpoint(tmp_path, "{epoch}")
    fit(trainer, first, max_epochs=1)
    second = ModelCheckpoint(tmp_path, "{epoch}")
    resumed = trainer(enable_checkpointing=True, callbacks=[second], max_epochs=3)
    resumed.fit(Classifier(), make_loader(), ckpt_path=first.best_model_path)
    assert names(tmp_path) == ["epoch=0.ckpt", "epoch=2.ckpt"]


def test_in_another_folder_the_ranking_begins_anew_with_a_warning(tmp_path: Path) -> None:
    before = ModelCheckpoint(tmp_path / "a", monitor="m")
    before.best_model_path = "there.ckpt"
    after = ModelCheckpoint(tmp_path / "b", monitor="m")
    with pytest.warns(UserWarning, match="the ranking begins anew"):
        after.load_state_dict(before.state_dict())
    assert after.best_model_path == "there.ckpt"
    assert after.best_k_models == {}


def test_its_state_is_kept_by_what_distinguishes_it() -> None:
    keys = {
        ModelCheckpoint(monitor=monitor, mode=mode).state_key for monitor in "ab" for mode in ("min", "max")
    }
    assert len(keys) == 4
    assert ModelCheckpoint(every_n_train_steps=5).state_key == (
        "ModelCheckpoint{'monitor': None, 'mode': 'min', 'every_n_train_steps': 5, 'every_n_epochs': 0, "
        "'train_time_interval': None}"
    )


# --- what cannot work -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"mode": "least"}, "Use 'min' or 'max'"),
        ({"save_top_k": -2}, "Use -1 for all"),
        ({"save_top_k": 3}, "Name a monitor"),
        ({"every_n_train_steps": -1}, "Use 1 or more"),
        ({"every_n_train_steps": 5, "every_n_epochs": 1}, "Use two ModelCheckpoints"),
        ({"train_time_interval": "1h", "every_n_epochs": 1}, "Use two ModelCheckpoints"),
        ({"train_time_interval": "soon"}, "it is no number with a unit"),
        ({"save_last": "maybe"}, "Use True, False or 'link'"),
        ({"save_last": "link", "dirpath": "memory://x"}, "there are no links"),
    ],
)
def test_arguments_that_cannot_work_are_named_with_a_fix(options: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        ModelCheckpoint(**options)


def test_a_monitor_that_nobody_logs_is_an_error_with_the_nearest_name(trainer: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="val_loss"):
        fit(trainer, ModelCheckpoint(tmp_path, monitor="val_los"))


# --- the pure parts -------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(
    scores=st.lists(st.integers(-50, 50), min_size=1, max_size=30),
    keep=st.integers(1, 6),
    mode=st.sampled_from(["min", "max"]),
)
def test_a_ranking_keeps_exactly_the_best(scores: list[int], keep: int, mode: Any) -> None:
    ranking = Ranking(mode, keep)
    for index, score in enumerate(scores):
        if ranking.admits(score):
            evicted = ranking.evicted()
            if evicted is not None:
                del ranking.scores[evicted]
            ranking.scores[str(index)] = torch.tensor(float(score))
    kept = sorted(float(score) for score in ranking.scores.values())
    expected = sorted(scores, reverse=mode == "max")[:keep]
    assert kept == sorted(float(score) for score in expected)
    assert float(ranking.scores[ranking.best]) == expected[0]
    assert float(ranking.scores[ranking.worst]) == expected[-1]


@settings(deadline=None, max_examples=50)
@given(st.sets(st.integers(1, 20)))
def test_the_first_free_name_is_free_and_the_first(taken: set[int]) -> None:
    used = {"name"} | {f"name-v{number}" for number in taken}
    found = first_free(lambda n: "name" if n is None else f"name-v{n}", used.__contains__, 1)
    number = int(found.removeprefix("name-v"))
    assert number not in taken
    assert all(smaller in taken for smaller in range(1, number))


def test_only_files_below_the_folder_are_removed(tmp_path: Path) -> None:
    inside, outside = str(tmp_path / "a" / "x.ckpt"), str(tmp_path / "x.ckpt")
    assert may_remove(inside, str(tmp_path / "a"), None)
    assert not may_remove(outside, str(tmp_path / "a"), None)
    assert not may_remove(inside, str(tmp_path / "a"), inside)
    assert may_remove("s3://bucket/x.ckpt", "s3://bucket", None)
