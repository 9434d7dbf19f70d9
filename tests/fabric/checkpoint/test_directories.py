"""Sharded checkpoints in one process: torn ones, hostile ones, other tools' ones."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from tests.fabric.checkpoint.test_files import Hostile

from blixt.fabric import CheckpointError, ConfigError, consolidate, is_complete
from blixt.fabric.checkpoint.dcp import load_directory, save_directory
from blixt.fabric.checkpoint.lazy import LazyState
from blixt.fabric.checkpoint.sharded import ShardedState, divide, merge


def content(value: float = 1.0) -> dict[str, Any]:
    """Two states and plain things around them."""
    optimizer = {
        "state": {"w": {"exp_avg": torch.full((3, 2), value), "step": 4}},
        "param_groups": [{"params": ["w"]}],
    }
    return {
        "state_dict": ShardedState({"w": torch.full((3, 2), value), "extra": {"kind": "x"}}),
        "optimizer_states": [ShardedState(optimizer)],
        "epoch": 2,
        "rng": [torch.arange(2)],
    }


def test_content_is_divided_into_tensors_and_the_rest() -> None:
    tensors, rest = divide(content())
    assert set(tensors) == {"state_dict", "optimizer_states"}
    assert list(tensors["optimizer_states"]["0"]["state"]["w"]) == ["exp_avg"]
    assert rest["epoch"] == 2
    assert rest["optimizer_states"][0]["values"]["state"] == {"w": {"step": 4}}


def test_what_several_processes_know_of_a_state_is_merged() -> None:
    first = {"values": {"param_groups": [{"lr": 1, "params": ["a"]}], "state": {"a": {"step": 1}}}}
    second = {"values": {"param_groups": [{"lr": 1, "params": ["b"]}], "state": {"b": {"step": 1}}}}
    merged = merge([first, second])["values"]
    assert merged["param_groups"] == [{"lr": 1, "params": ["a", "b"]}]
    assert list(merged["state"]) == ["a", "b"]


def test_a_directory_comes_back_lazily_and_looks_like_what_was_saved(tmp_path: Path) -> None:
    save_directory(tmp_path / "a.ckpt", content())
    assert is_complete(tmp_path / "a.ckpt")
    again = load_directory(tmp_path / "a.ckpt")
    state = again["state_dict"]
    assert isinstance(state, LazyState)
    assert list(state) == ["w", "extra"]
    assert state["w"].tolist() == [[1, 1]] * 3
    assert again["optimizer_states"][0]["state"]["w"]["exp_avg"].shape == (3, 2)
    assert again["optimizer_states"][0].load()["state"]["w"]["step"] == 4
    assert again["rng"][0].tolist() == [0, 1]
    with pytest.raises(KeyError):
        state["missing"]


def test_a_directory_at_a_url_works_the_same() -> None:
    save_directory("memory://box/dir.ckpt", content(2.0))
    assert is_complete("memory://box/dir.ckpt")
    assert load_directory("memory://box/dir.ckpt")["state_dict"]["w"].tolist() == [[2, 2]] * 3


def test_saving_over_a_checkpoint_replaces_it_and_leaves_nothing(tmp_path: Path) -> None:
    save_directory(tmp_path / "a.ckpt", content(1.0))
    save_directory(tmp_path / "a.ckpt", content(2.0))
    assert load_directory(tmp_path / "a.ckpt")["state_dict"]["w"][0, 0] == 2
    assert os.listdir(tmp_path) == ["a.ckpt"]


@pytest.mark.parametrize("missing", ["meta.pt", ".metadata"])
def test_a_torn_directory_is_never_complete(missing: str, tmp_path: Path) -> None:
    save_directory(tmp_path / "a.ckpt", content())
    (tmp_path / "a.ckpt" / missing).unlink()
    assert not is_complete(tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match="holds no complete checkpoint"):
        load_directory(tmp_path / "a.ckpt")


def test_the_previous_checkpoint_comes_back_when_the_change_of_names_was_stopped(tmp_path: Path) -> None:
    save_directory(tmp_path / "a.ckpt", content(1.0))
    os.rename(tmp_path / "a.ckpt", tmp_path / ".a.ckpt.0123.old")
    assert load_directory(tmp_path / "a.ckpt")["epoch"] == 2
    assert os.listdir(tmp_path) == ["a.ckpt"]


def test_a_hostile_index_runs_no_code_and_its_wish_is_named(tmp_path: Path) -> None:
    save_directory(tmp_path / "a.ckpt", content())
    (tmp_path / "a.ckpt" / ".metadata").write_bytes(pickle.dumps(Hostile(tmp_path / "touched")))
    state = load_directory(tmp_path / "a.ckpt")["state_dict"]
    with pytest.raises(CheckpointError, match=r"it wants to use posix\.mkdir"):
        state.load()
    with pytest.raises(CheckpointError, match=r"it wants to use posix\.mkdir"):
        consolidate(tmp_path / "a.ckpt")
    assert not (tmp_path / "touched").exists()


def test_a_hostile_meta_file_runs_no_code(tmp_path: Path) -> None:
    save_directory(tmp_path / "a.ckpt", content())
    torch.save({"w": Hostile(tmp_path / "touched")}, tmp_path / "a.ckpt" / "meta.pt")
    with pytest.raises(CheckpointError, match=r"it wants to use posix\.mkdir"):
        load_directory(tmp_path / "a.ckpt")
    assert not (tmp_path / "touched").exists()


def test_an_index_cannot_point_outside_of_its_checkpoint(tmp_path: Path) -> None:
    save_directory(tmp_path / "a.ckpt", content())
    index = tmp_path / "a.ckpt" / ".metadata"
    metadata = pickle.loads(index.read_bytes())
    for info in metadata.storage_data.values():
        info.relative_path = "../other.distcp"
    index.write_bytes(pickle.dumps(metadata))
    with pytest.raises(CheckpointError, match="points outside of its checkpoint"):
        load_directory(tmp_path / "a.ckpt")["state_dict"].load()


@pytest.mark.parametrize("garbage", [b"", b"garbage", pickle.dumps({"not": "an index"})])
def test_a_damaged_index_is_an_error_with_its_path(garbage: bytes, tmp_path: Path) -> None:
    save_directory(tmp_path / "a.ckpt", content())
    (tmp_path / "a.ckpt" / ".metadata").write_bytes(garbage)
    with pytest.raises(CheckpointError, match=r"a\.ckpt/\.metadata is damaged"):
        load_directory(tmp_path / "a.ckpt")["state_dict"].load()


def test_damaged_shards_are_an_error_with_their_checkpoint(tmp_path: Path) -> None:
    save_directory(tmp_path / "a.ckpt", content())
    for shard in (tmp_path / "a.ckpt").glob("*.distcp"):
        shard.write_bytes(b"garbage")
    with pytest.raises(CheckpointError, match=r"a\.ckpt could not be read"):
        load_directory(tmp_path / "a.ckpt")["state_dict"].load()


def test_consolidation_numbers_optimizers_as_torch_does(tmp_path: Path) -> None:
    save_directory(tmp_path / "a.ckpt", content())
    file = consolidate(tmp_path / "a.ckpt")
    assert file == tmp_path / "a.ckpt.consolidated"
    whole = torch.load(file, weights_only=True)
    assert whole["state_dict"]["w"].shape == (3, 2)
    assert whole["state_dict"]["extra"] == {"kind": "x"}
    assert whole["optimizer_states"][0]["param_groups"] == [{"params": [0]}]
    assert whole["optimizer_states"][0]["state"][0]["step"] == 4
    assert whole["epoch"] == 2


def test_consolidation_reads_what_torch_alone_has_written(tmp_path: Path) -> None:
    state = {"model": {"w": torch.ones(2)}, "step": 3}
    dcp.save(state, checkpoint_id=tmp_path / "dcp", no_dist=True)
    whole = torch.load(consolidate(tmp_path / "dcp", tmp_path / "out.pt"), weights_only=True)
    assert whole["model"]["w"].tolist() == [1, 1]
    assert whole["step"] == 3


def test_a_hostile_value_in_torchs_own_checkpoint_runs_no_code(tmp_path: Path) -> None:
    dcp.save({"evil": Hostile(tmp_path / "touched")}, checkpoint_id=tmp_path / "dcp", no_dist=True)
    with pytest.raises(CheckpointError, match="could not be read"):
        consolidate(tmp_path / "dcp")
    assert not (tmp_path / "touched").exists()


def test_torchs_own_tool_reads_ours(tmp_path: Path) -> None:
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    save_directory(tmp_path / "a.ckpt", content())
    dcp_to_torch_save(tmp_path / "a.ckpt", tmp_path / "out.pt")
    assert torch.load(tmp_path / "out.pt", weights_only=True)["state_dict"]["w"].shape == (3, 2)


def test_lightnings_sharded_checkpoints_are_consolidated(tmp_path: Path) -> None:
    lightning_way = {
        "state_dict": {"w": torch.ones(2)},
        "optimizer_0": {"state": {"w": {"exp_avg": torch.ones(2)}}},
    }
    dcp.save(lightning_way, checkpoint_id=tmp_path / "dir", no_dist=True)
    torch.save({"epoch": 5, "global_step": 9}, tmp_path / "dir" / "meta.pt")
    whole = torch.load(consolidate(tmp_path / "dir"), weights_only=True)
    assert whole["epoch"] == 5
    assert whole["optimizer_states"][0]["state"]["w"]["exp_avg"].tolist() == [1, 1]


def test_consolidation_of_something_else_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no sharded checkpoint at"):
        consolidate(tmp_path / "missing")
    with pytest.raises(CheckpointError, match="it is another kind of folder"):
        consolidate(tmp_path)
    save_directory(tmp_path / "a.ckpt", content())
    with pytest.raises(ConfigError, match="it is a directory"):
        consolidate(tmp_path / "a.ckpt", tmp_path)


KILLED = """
import sys, torch
from blixt.fabric.checkpoint.dcp import save_directory
from blixt.fabric.checkpoint.sharded import ShardedState
round = 0
while True:
    state = ShardedState({"w": torch.full((1_000_000,), float(round))})
    save_directory(sys.argv[1], {"state_dict": state, "round": round})
    if round == 0:
        print("first", flush=True)
    round += 1
"""


def test_kill_9_in_the_middle_of_a_save_leaves_the_previous_directory(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    writer = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "first\n"
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".last.ckpt.*.partial/*.distcp")) and time.monotonic() < deadline:
        pass  # until the writer is in the middle of one
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    again = load_directory(path)
    assert again["state_dict"]["w"].unique().tolist() == [float(again["round"])]
    save_directory(path, {"round": -1})
    assert os.listdir(tmp_path) == ["last.ckpt"]
