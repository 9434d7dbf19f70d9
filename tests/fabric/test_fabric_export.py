"""Weights as safetensors files."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file as read_safetensors

from blixt.fabric import CheckpointError, ConfigError, export_safetensors, load_safetensors, save_safetensors
from blixt.fabric.checkpoint import save_file


def test_a_file_holds_the_tensors_and_tied_ones_once(tmp_path: Path) -> None:
    weight = torch.randn(4, 4)
    save_safetensors({"a": weight, "b": weight, "n": 3, "t": weight.t()}, tmp_path / "w.safetensors")
    assert sorted(read_safetensors(tmp_path / "w.safetensors")) == ["a", "t"]
    again = load_safetensors(tmp_path / "w.safetensors")
    assert torch.equal(again["b"], weight)
    assert torch.equal(again["t"], weight.t())


def test_large_states_are_laid_out_in_numbered_files_as_hugging_face_does(tmp_path: Path) -> None:
    state = {f"layer.{i}": torch.full((10,), float(i)) for i in range(5)}
    files = save_safetensors(state, tmp_path / "model", max_shard_size_bytes=80)
    assert [file.name for file in files][:2] == [
        "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors",
    ]
    index = json.loads((tmp_path / "model" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 200
    assert index["weight_map"]["layer.4"] == "model-00003-of-00003.safetensors"
    assert all(
        torch.equal(load_safetensors(tmp_path / "model")[name], value) for name, value in state.items()
    )


def test_a_checkpoint_is_exported_under_the_names_that_remain_without_a_prefix(tmp_path: Path) -> None:
    save_file(tmp_path / "a.ckpt", {"state_dict": {"model.w": torch.ones(2), "loss.w": torch.ones(1)}})
    export_safetensors(tmp_path / "a.ckpt", tmp_path / "model", prefix="model.")
    assert list(load_safetensors(tmp_path / "model")) == ["w"]


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    save_file(tmp_path / "a.ckpt", {"state_dict": {"w": torch.ones(2)}, "epoch": 1})
    with pytest.raises(CheckpointError, match=r"no module under 'ema'\. It holds 'state_dict', 'epoch'"):
        export_safetensors(tmp_path / "a.ckpt", tmp_path / "w.safetensors", key="ema")
    with pytest.raises(ConfigError, match=r"no weight has it\. Names begin like 'w'"):
        export_safetensors(tmp_path / "a.ckpt", tmp_path / "w.safetensors", prefix="model.")


def test_files_that_are_no_safetensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There are no safetensors at"):
        load_safetensors(tmp_path)
    (tmp_path / "bad.safetensors").write_bytes(b"garbage")
    with pytest.raises(CheckpointError, match="is no readable safetensors file"):
        load_safetensors(tmp_path / "bad.safetensors")


def test_an_index_cannot_point_outside_of_its_directory(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"w": "../other.safetensors"}}')
    with pytest.raises(CheckpointError, match="points outside of its directory"):
        load_safetensors(tmp_path)
