"""Loggers, read back by the clients of the tools they write for."""

import csv
import json
import os
import pickle
import struct
import threading
import time
import zipfile
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch.loggers
import pytest
import torch
import yaml
from torch import nn

from blixt.fabric import (
    CometLogger,
    ConfigError,
    CSVLogger,
    DummyExperiment,
    DummyLogger,
    FabricError,
    Logger,
    MLFlowLogger,
    TensorBoardLogger,
    WandbLogger,
    rank_zero_only,
)
from blixt.fabric.loggers.checkpoints import fresh_files, uploads_now
from blixt.fabric.loggers.params import plain_params

PARAMS = {"lr": 0.1, "net": {"width": [1, 2], "act": "relu"}, "fn": len, "none": None, "name": "n"}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rank_zero_only, "rank", 0)


# --- CSV ------------------------------------------------------------------------------------------


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def drive(logger: Any) -> Path:
    """Metrics that come and go, in several flushes, with and without steps."""
    logger.log_metrics({"loss": torch.tensor(0.5), "b": 1}, step=0)
    logger.log_metrics({"loss": 0.25, "acc": 0.5}, step=1)
    logger.save()
    logger.log_metrics({"late": 2.0}, step=5)
    logger.log_metrics({"loss": 0.125}, step=99)
    logger.log_metrics({"loss": 3.0})
    logger.finalize("success")
    return Path(logger.log_dir) / "metrics.csv"


def test_the_csv_file_is_lightnings_to_the_byte() -> None:
    theirs = lightning.pytorch.loggers.CSVLogger("theirs", name="n", flush_logs_every_n_steps=100)
    expected, found = (drive(logger).read_bytes() for logger in (theirs, CSVLogger("ours", name="n")))
    # The last row had no step: ours counts rows, theirs only those since the last flush.
    assert found.splitlines()[:-1] == expected.splitlines()[:-1]
    assert [line.split(b",")[-1] for line in (found.splitlines()[-1], expected.splitlines()[-1])] == [
        b"4",
        b"0",
    ]
    assert Path("ours/n/version_0/metrics.csv").exists()


def test_hyperparameters_are_kept_nested_in_a_safe_yaml_file() -> None:
    @dataclass
    class Config:
        depth: int = 2

    logger = CSVLogger("runs")
    logger.log_hyperparams(Namespace(**PARAMS, config=Config()))
    logger.save()
    written = yaml.safe_load((Path(logger.log_dir) / "hparams.yaml").read_text())
    assert written == {**PARAMS, "fn": "len", "config": {"depth": 2}}


def test_each_run_gets_the_next_free_version_and_a_given_one_goes_on() -> None:
    first = CSVLogger("runs", "x")
    first.log_metrics({"a": 1}, step=0)
    first.save()
    assert (first.version, CSVLogger("runs", "x").version, CSVLogger("runs", "x", "final").log_dir) == (
        0,
        1,
        "runs/x/final",
    )
    again = CSVLogger("runs", "x", version=0)
    again.log_metrics({"b": 2}, step=1)
    again.finalize("success")
    assert rows(Path(again.log_dir) / "metrics.csv") == [
        {"a": "1", "b": "", "step": "0"},
        {"a": "", "b": "2", "step": "1"},
    ]
    assert CSVLogger("runs", name=None, version=3).log_dir == "runs/version_3"
    assert CSVLogger(root_dir="runs").root_dir == "runs/logs"
    with pytest.raises(ConfigError, match="Give it"):
        CSVLogger()


def test_a_prefix_comes_before_every_name_and_steps_flush() -> None:
    logger = CSVLogger("runs", prefix="fold1", flush_logs_every_n_steps=2)
    logger.log_metrics({"a": 1}, step=0)
    assert not Path(logger.log_dir).exists()
    logger.log_metrics({"a": 2}, step=1)
    assert [row["fold1-a"] for row in rows(Path(logger.log_dir) / "metrics.csv")] == ["1", "2"]


def test_logs_may_go_to_a_url() -> None:
    import fsspec

    logger = CSVLogger("memory://blixt-logs", name="x")
    logger.log_metrics({"a": 1}, step=0)
    logger.save()
    logger.log_metrics({"a": 2, "b": 3}, step=1)
    logger.finalize("success")
    with fsspec.open("memory://blixt-logs/x/version_0/metrics.csv", "r") as file:
        assert file.read().splitlines() == ["a,b,step", "1,,0", "2,3,1"]
    assert CSVLogger("memory://blixt-logs", name="x").version == 1


def test_a_folder_that_cannot_be_written_is_an_error_with_a_way_out() -> None:
    Path("file").write_text("")
    logger = CSVLogger("file")
    logger.log_metrics({"a": 1})
    with pytest.raises(FabricError, match="Choose another save_dir"):
        logger.save()


# --- TensorBoard ----------------------------------------------------------------------------------


def events(folder: str) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(folder)
    found.Reload()
    return found


def test_tensorboard_reads_scalars_hyperparameters_and_graph() -> None:
    logger = TensorBoardLogger("tb", name="n", version="v", log_graph=True, prefix="p", sub_dir="s")
    logger.log_hyperparams(PARAMS)
    logger.log_metrics({"loss": torch.tensor(0.5), "both": {"x": 1.0, "y": 2.0}}, step=3)
    logger.log_graph(nn.Linear(2, 1), torch.ones(1, 2))
    logger.experiment.add_text("note", "hello", 1)
    logger.finalize("success")
    read = events(logger.log_dir)
    assert [(e.step, e.value) for e in read.Scalars("p-loss")] == [(3, 0.5)]
    assert [(e.step, e.value) for e in read.Scalars("p-hp_metric")] == [(0, -1.0)]
    assert read.Tags()["graph"]
    plugins = read.SummaryMetadata("_hparams_/session_start_info").plugin_data
    assert plugins.plugin_name == "hparams"
    assert logger.log_dir == "tb/n/v/s"
    assert (logger.save_dir, logger.root_dir) == ("tb", "tb/n")
    assert yaml.safe_load(Path("tb/n/v/s/hparams.yaml").read_text())["net"] == PARAMS["net"]
    with pytest.raises(ConfigError, match="TensorBoard takes numbers"):
        logger.log_metrics({"a": "text"}, step=1)


def test_tensorboard_judges_hyperparameters_by_given_metrics() -> None:
    logger = TensorBoardLogger("tb", default_hp_metric=False)
    logger.log_hyperparams({"lr": 1})
    logger.log_hyperparams({"lr": 1}, {"acc": 0.9}, step=7)
    logger.finalize("success")
    assert [(e.step, round(e.value, 3)) for e in events(logger.log_dir).Scalars("acc")] == [(7, 0.9)]
    with pytest.warns(UserWarning, match="example_input_array"):
        TensorBoardLogger("tb", log_graph=True).log_graph(nn.Linear(1, 1))


def test_a_model_that_cannot_be_drawn_is_told_of_and_does_not_end_the_run() -> None:
    logger = TensorBoardLogger("tb", log_graph=True)
    with pytest.warns(UserWarning, match="cannot be traced"):
        logger.log_graph(nn.Linear(1, 1), {"x": 1, "y": 2})  # pyright: ignore[reportArgumentType]
    logger.finalize("success")


@pytest.mark.parametrize("kind", [CSVLogger, TensorBoardLogger])
def test_a_logger_of_ones_own_may_name_its_folders(kind: Any) -> None:
    class Own(kind):
        name = property(lambda self: "own")
        version = property(lambda self: "first")

    assert Own("logs").log_dir == os.path.join("logs", "own", "first")


def test_copies_for_other_processes_write_into_the_same_run() -> None:
    logger = TensorBoardLogger("tb")
    logger.log_metrics({"a": 1}, step=0)
    twin = pickle.loads(pickle.dumps(logger))
    assert twin.log_dir == logger.log_dir


# --- Weights & Biases -----------------------------------------------------------------------------


def wandb_records(path: Path) -> Iterator[Any]:
    """The records of a run's file, which is a LevelDB log of W&B's own messages."""
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2

    data, position, whole = path.read_bytes(), 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        whole += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            try:
                record.ParseFromString(whole)
            except DecodeError:  # it is being written
                return
            yield record
            whole = b""


def complete(path: Path) -> list[Any]:
    """All records, once W&B's own process has written the last."""
    deadline = time.monotonic() + 60
    while True:
        records = list(wandb_records(path))
        if any(record.HasField("exit") for record in records) or time.monotonic() > deadline:
            return records
        threading.Event().wait(0.05)


def named(item: Any) -> str:
    return item.key or item.nested_key[0]


def test_wandb_offline_runs_hold_rows_config_and_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_CONSOLE", "off")
    logger = WandbLogger("run name", "wb", offline=True, project="proj", prefix="p", tags=["t"])
    logger.log_hyperparams(Namespace(**PARAMS))
    logger.log_metrics({"loss": 0.5}, step=3)
    logger.log_metrics({"loss": 0.25}, step=4)
    logger.log_text("words", columns=["a"], data=[["x"]])
    assert (logger.name, logger.save_dir) == ("proj", "wb")
    assert logger.version == logger.experiment.id
    logger.finalize("success")
    logger.experiment.finish()
    (file,) = Path("wb/wandb").glob("offline-run-*/run-*.wandb")
    records = complete(file)
    history = [{named(i): json.loads(i.value_json) for i in r.history.item} for r in records]
    numbers = [(row["p-loss"], row["trainer/global_step"]) for row in history if "p-loss" in row]
    assert numbers == [(0.5, 3), (0.25, 4)], f"{file.stat()} {file.read_bytes()[:80]!r}"
    run = next(r.run for r in records if r.HasField("run"))
    assert (run.display_name, run.project, list(run.tags)) == ("run name", "proj", ["t"])
    config = {named(i): json.loads(i.value_json) for r in records for i in r.config.update}
    assert (config["lr"], config["net"], config["fn"]) == (0.1, PARAMS["net"], "len")
    assert "trainer/global_step" in {r.metric.name for r in records if r.HasField("metric")}


def test_wandb_refuses_to_upload_while_offline_and_lists_of_unequal_length() -> None:
    with pytest.raises(ConfigError, match="cannot be uploaded offline"):
        WandbLogger(offline=True, log_model=True)
    with pytest.raises(ConfigError, match="Give one for each item"):
        WandbLogger(offline=True).log_image("x", [1, 2], caption=["one"])


# --- MLflow ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["file", "sqlite"])
def test_mlflows_client_reads_metrics_parameters_tags_and_state(store: str, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path}/ml.db" if store == "sqlite" else f"file:{tmp_path}/ml"
    if store == "sqlite":
        pytest.importorskip("sqlalchemy")
    artifacts = f"file:{tmp_path}/artifacts"
    logger = MLFlowLogger("exp", "run name", uri, {"k": "v"}, prefix="p", artifact_location=artifacts)
    logger.log_hyperparams({**PARAMS, "long": "x" * 7000})
    logger.log_metrics({"loss(val)": 0.5, "acc": torch.tensor(0.25)}, step=3)
    with pytest.warns(UserWarning, match="takes numbers only"):
        logger.log_metrics({"text": "x", "acc": 0.75}, step=4)  # type: ignore[dict-item]
    logger.finalize("success")
    client = MlflowClient(uri)
    run = client.get_run(logger.run_id)
    assert run.data.metrics == {"p-loss_val_": 0.5, "p-acc": 0.75}
    assert [(m.step, m.value) for m in client.get_metric_history(logger.run_id, "p-acc")] == [
        (3, 0.25),
        (4, 0.75),
    ]
    assert (run.data.params["net/width/1"], len(run.data.params["long"])) == ("2", 6000)
    assert (run.data.tags["k"], run.info.run_name, run.info.status) == ("v", "run name", "FINISHED")
    assert (logger.name, logger.version) == (run.info.experiment_id, run.info.run_id)
    again = MLFlowLogger("exp", tracking_uri=uri, run_id=logger.run_id)
    again.log_metrics({"more": 1.0}, step=5)
    assert client.get_run(logger.run_id).data.metrics["more"] == 1.0
    assert MLFlowLogger("exp", tracking_uri=uri).experiment_id == logger.experiment_id


class Checkpoints:
    """What a checkpoint callback shows."""

    save_top_k = 1
    monitor = "loss"

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.best_model_path, self.last_model_path = str(folder / "a.ckpt"), str(folder / "last.ckpt")
        self.best_model_score = self.current_score = torch.tensor(0.5)
        self.best_k_models = {self.best_model_path: torch.tensor(0.5)}
        for number, path in enumerate((self.best_model_path, self.last_model_path)):
            Path(path).write_text("weights")
            os.utime(path, (number, number))


def test_checkpoints_are_found_once_and_again_when_they_change(tmp_path: Path) -> None:
    callback, seen = Checkpoints(tmp_path / "c"), {}
    found = fresh_files(callback, seen)
    assert [(Path(f.path).name, f.tag, f.best, f.score) for f in found] == [
        ("a.ckpt", "best_k", True, 0.5),
        ("last.ckpt", "latest", False, 0.5),
    ]
    seen.update({f.path: f.time for f in found})
    assert fresh_files(callback, seen) == []
    os.utime(callback.last_model_path, (9, 9))
    assert [Path(f.path).name for f in fresh_files(callback, seen)] == ["last.ckpt"]
    assert [uploads_now(m, callback) for m in ("all", True, False)] == [True, False, False]


def test_mlflow_keeps_checkpoints_as_artifacts_of_the_run(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    uri = f"file:{tmp_path}/ml"
    logger = MLFlowLogger(tracking_uri=uri, log_model=True)
    callback = Checkpoints(tmp_path / "c")
    logger.after_save_checkpoint(callback)
    assert logger.run_id
    assert not MlflowClient(uri).list_artifacts(logger.run_id)
    logger.finalize("success")
    found = MlflowClient(uri).list_artifacts(logger.run_id, "model/checkpoints")
    assert [Path(entry.path).name for entry in found] == ["a", "last"]


# --- Comet ----------------------------------------------------------------------------------------


def test_comet_writes_an_archive_that_can_be_uploaded_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMET_LOGGING_CONSOLE", "CRITICAL")
    logger = CometLogger(
        project="proj",
        online=False,
        save_dir="off",
        prefix="p",
        name="shown",
        log_code=False,
        log_env_details=False,
        log_git_metadata=False,
    )
    logger.log_hyperparams(PARAMS)
    logger.log_metrics({"loss": torch.tensor(0.5), "epoch": 1}, step=3)
    key = logger.version
    logger.finalize("success")
    (archive,) = Path("off").glob("*.zip")
    with zipfile.ZipFile(archive) as content:
        messages = [json.loads(line)["payload"] for line in content.read("messages.json").splitlines()]
        about = json.loads(content.read("experiment.json"))
    metrics = [m["metric"] for m in messages if m.get("metric", {}).get("metricName") == "p-loss"]
    assert [(m["metricValue"], m["step"], m["epoch"]) for m in metrics] == [(0.5, 3, 1)]
    params = {m["param"]["paramName"]: m["param"]["paramValue"] for m in messages if m.get("param")}
    assert (params["lr"], params["net/width/1"]) == (0.1, 2)
    assert about["project_name"] == logger.name == "proj"
    assert key is not None
    assert key in archive.name
    assert logger.save_dir == "off"
    with pytest.raises(ConfigError, match="no such mode"):
        CometLogger(mode="make")  # type: ignore[arg-type]


# --- all ------------------------------------------------------------------------------------------


def test_ranks_other_than_zero_may_call_everything_and_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    loggers: list[Logger] = [CSVLogger("x"), TensorBoardLogger("x"), CometLogger(online=False)]
    for logger in [*loggers, WandbLogger(offline=True), MLFlowLogger(save_dir="x")]:
        assert isinstance(logger.experiment, DummyExperiment)
        logger.log_metrics({"a": 1.0}, step=99)
        logger.log_metrics({"a": 1.0})
        logger.log_hyperparams(PARAMS)
        logger.log_graph(nn.Linear(1, 1))
        logger.save()
        logger.finalize("success")
    assert not Path("x").exists()


def test_the_dummy_takes_everything() -> None:
    logger = DummyLogger()
    logger.log_metrics({"a": 1}, step=1)
    logger.log_hyperparams({"a": 1})
    logger.log_metrics("a", 1, three=3)
    logger.anything(1, two=2)
    logger.experiment[0].add_image("x")
    assert (logger.name, logger.version, logger.log_dir, logger[3] is logger) == ("", "", None, True)


def test_a_logger_of_ones_own_needs_three_members() -> None:
    class Own(Logger):
        name = "own"
        version = 1

        def __init__(self) -> None:
            self.rows: list[Any] = []

        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            self.rows.append((metrics, step))

    logger = Own()
    logger.log_metrics({"a": 1.0}, 2)
    logger.log_hyperparams({})
    logger.log_graph(nn.Linear(1, 1))
    logger.after_save_checkpoint(None)
    logger.finalize("success")
    assert (logger.experiment, logger.save_dir, logger.root_dir, logger.group_separator) == (
        None,
        None,
        None,
        "/",
    )


def test_parameters_are_flattened_to_simple_values() -> None:
    flat = plain_params({"a": {"b": (1, {"c": torch.tensor(2.0)})}, "t": torch.ones(2), "k": nn.Linear})
    assert flat == {"a/b/0": 1, "a/b/1/c": 2.0, "t": "tensor([1., 1.])", "k": "Linear"}
