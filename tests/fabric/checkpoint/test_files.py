"""Checkpoint files: whole or not at all, anywhere, and never code."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from blixt.fabric import CheckpointError, ConfigError
from blixt.fabric.checkpoint import (
    AsyncCheckpointIO,
    CheckpointIO,
    TorchCheckpointIO,
    WrappingCheckpointIO,
    is_complete,
    load_file,
    save_file,
)


class Hostile:
    """Makes a directory when it is unpickled."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.touched),)


def test_a_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    TorchCheckpointIO().save_checkpoint({"w": torch.arange(3.0), "n": 4}, tmp_path / "deep" / "a.ckpt")
    content = TorchCheckpointIO().load_checkpoint(tmp_path / "deep" / "a.ckpt")
    assert content["w"].tolist() == [0, 1, 2]
    assert content["n"] == 4
    assert os.listdir(tmp_path / "deep") == ["a.ckpt"]


def test_an_fsspec_url_works_like_a_path() -> None:
    save_file("memory://box/deep/a.ckpt", {"w": torch.ones(2)})
    assert load_file("memory://box/deep/a.ckpt")["w"].tolist() == [1, 1]
    assert is_complete("memory://box/deep/a.ckpt")
    TorchCheckpointIO().remove_checkpoint("memory://box/deep/a.ckpt")
    assert not is_complete("memory://box/deep/a.ckpt")
    with pytest.raises(CheckpointError, match=r"no checkpoint at memory://box/deep/a\.ckpt"):
        load_file("memory://box/deep/a.ckpt")


def test_a_url_that_nothing_can_open_is_refused_with_a_reason() -> None:
    with pytest.raises(ConfigError, match="fsspec cannot open it"):
        save_file("nowhere://box/a.ckpt", {})


def test_options_for_storage_belong_to_urls(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a file of this machine has no such options"):
        TorchCheckpointIO().save_checkpoint({}, tmp_path / "a.ckpt", storage_options={"key": 1})


def test_removing_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    TorchCheckpointIO().remove_checkpoint(tmp_path / "missing.ckpt")


@pytest.mark.parametrize("kind", [CheckpointError, FileNotFoundError])
def test_a_file_that_is_not_there_is_missed_by_either_name(kind: type[Exception], tmp_path: Path) -> None:
    for path in (tmp_path / "none.ckpt", "memory://none.ckpt"):
        with pytest.raises(kind, match="There is no checkpoint at"):
            load_file(path)


def test_a_hostile_file_runs_no_code_and_its_wish_is_named(tmp_path: Path) -> None:
    torch.save({"w": Hostile(tmp_path / "touched")}, tmp_path / "bad.ckpt")
    with pytest.raises(CheckpointError, match=r"it wants to use posix\.mkdir") as caught:
        load_file(tmp_path / "bad.ckpt")
    assert isinstance(caught.value.__cause__, pickle.UnpicklingError)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("garbage", [b"", b"not a checkpoint", b"PK\x03\x04 torn"])
def test_a_damaged_file_is_an_error_with_its_path(garbage: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.ckpt").write_bytes(garbage)
    with pytest.raises(CheckpointError, match=r"bad\.ckpt is damaged"):
        load_file(tmp_path / "bad.ckpt")


def test_a_failed_write_leaves_the_previous_file_and_nothing_else(tmp_path: Path) -> None:
    save_file(tmp_path / "a.ckpt", {"n": 1})
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        save_file(tmp_path / "a.ckpt", {"n": lambda: None})
    assert load_file(tmp_path / "a.ckpt") == {"n": 1}
    assert os.listdir(tmp_path) == ["a.ckpt"]


KILLED = """
import sys, torch
from blixt.fabric.checkpoint import save_file
path = sys.argv[1]
save_file(path, {"round": 0, "w": torch.zeros(2_000_000)})
print("first", flush=True)
round = 0
while True:
    round += 1
    save_file(path, {"round": round, "w": torch.full((2_000_000,), float(round))})
"""


def test_kill_9_in_the_middle_of_saves_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    writer = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "first\n"
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".last.ckpt.*.partial")) and time.monotonic() < deadline:
        pass  # until the writer is in the middle of one
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    content = load_file(path)
    assert content["w"].unique().tolist() == [float(content["round"])]


class Recording(WrappingCheckpointIO):
    """Knows what it was asked to do."""

    def __init__(self, checkpoint_io: CheckpointIO | None = None) -> None:
        super().__init__(checkpoint_io)
        self.calls: list[str] = []

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        self.calls.append("save")
        super().save_checkpoint(checkpoint, path, storage_options)

    def teardown(self) -> None:
        self.calls.append("teardown")
        super().teardown()


def trained(steps: int, plugin: CheckpointIO, folder: Path) -> dict[str, Any]:
    """Train with momentum and batch normalisation, save before the last step; returns the state saved."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.BatchNorm1d(64), torch.nn.Linear(64, 1))
    optimizer = torch.optim.AdamW(model.parameters())
    kept: dict[str, Any] = {}
    for step in range(steps):
        if step == steps - 1:
            kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            plugin.expect_steady(model.parameters())
            plugin.expect_steady(t for s in optimizer.state.values() for t in s.values())
            plugin.save_checkpoint(
                {"model": model.state_dict(), "optimizer": optimizer.state_dict()}, folder / "a.ckpt"
            )
        optimizer.zero_grad()
        model(torch.randn(8, 64)).square().mean().backward()
        optimizer.step()
    return kept


@pytest.mark.parametrize("overlap", [True, False])
def test_what_is_saved_in_the_background_is_the_state_at_the_call(overlap: bool, tmp_path: Path) -> None:
    inner = Recording()
    plugin = AsyncCheckpointIO(inner, overlap=overlap)
    for _ in range(3):
        kept = trained(4, plugin, tmp_path)
        plugin.wait()
        content = load_file(tmp_path / "a.ckpt")
        assert all(torch.equal(content["model"][name], tensor) for name, tensor in kept.items())
        assert content["optimizer"]["state"][0]["step"] == 3
    plugin.teardown()
    assert inner.calls == ["save", "save", "save", "teardown"]


def test_optimizers_have_a_hook_only_from_the_first_save_until_the_end(tmp_path: Path) -> None:
    hooks = sys.modules["torch.optim.optimizer"]._global_optimizer_pre_hooks
    before = len(hooks)
    plugin = AsyncCheckpointIO()
    assert len(hooks) == before
    trained(2, plugin, tmp_path)
    assert len(hooks) == before + 1
    plugin.teardown()
    assert len(hooks) == before


def test_a_parameter_changed_by_hand_while_staged_drops_the_checkpoint_with_a_reason(tmp_path: Path) -> None:
    plugin = AsyncCheckpointIO()
    weight = torch.nn.Parameter(torch.zeros(1000, 1000))
    plugin.expect_steady([weight])
    copy, finish = plugin._staging.begin({"w": weight.detach()})
    with torch.no_grad():
        weight.add_(1)
    with pytest.raises(CheckpointError, match="changed outside of an optimizer step"):
        finish()
    assert copy["w"].shape == weight.shape
    plugin.teardown()


def test_a_failed_write_in_the_background_is_raised_by_the_next_save(tmp_path: Path) -> None:
    plugin = AsyncCheckpointIO()
    (tmp_path / "file").write_text("")
    plugin.save_checkpoint({"w": torch.ones(2)}, tmp_path / "file" / "a.ckpt")
    with pytest.raises(CheckpointError, match="could not be written"):
        plugin.save_checkpoint({"w": torch.ones(2)}, tmp_path / "b.ckpt")
    plugin.teardown()


def test_tied_tensors_are_staged_once_and_stay_tied(tmp_path: Path) -> None:
    plugin = AsyncCheckpointIO()
    weight = torch.randn(200, 200)
    plugin.save_checkpoint({"a": weight, "b": weight}, tmp_path / "a.ckpt")
    plugin.teardown()
    content = load_file(tmp_path / "a.ckpt")
    assert content["a"].data_ptr() == content["b"].data_ptr()
    assert torch.equal(content["a"], weight)


def test_deleting_waits_its_turn_behind_the_write(tmp_path: Path) -> None:
    plugin = AsyncCheckpointIO()
    plugin.save_checkpoint({"w": torch.ones(500, 500)}, tmp_path / "a.ckpt")
    plugin.remove_checkpoint(tmp_path / "a.ckpt")
    plugin.teardown()
    assert not (tmp_path / "a.ckpt").exists()


def test_an_older_checkpoint_stays_when_the_newer_one_could_not_be_written(tmp_path: Path) -> None:
    plugin = AsyncCheckpointIO()
    save_file(tmp_path / "old.ckpt", {"n": 1})
    (tmp_path / "file").write_text("")
    plugin.save_checkpoint({"w": torch.ones(2)}, tmp_path / "file" / "new.ckpt")
    plugin.remove_checkpoint(tmp_path / "old.ckpt")
    with pytest.raises(CheckpointError, match="could not be written"):
        plugin.teardown()
    assert load_file(tmp_path / "old.ckpt") == {"n": 1}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has priorities of threads")
def test_the_background_writes_with_low_priority_and_leaves_that_of_training_alone(tmp_path: Path) -> None:
    found: list[int] = []

    class Look(TorchCheckpointIO):
        def save_checkpoint(self, *args: Any, **options: Any) -> None:
            found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
            super().save_checkpoint(*args, **options)

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    plugin = AsyncCheckpointIO(Look())
    for number in range(2):
        plugin.save_checkpoint({"n": number}, tmp_path / "a.ckpt")
    plugin.teardown()
    assert found == [min(before + 5, 19)] * 2
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before
    assert load_file(tmp_path / "a.ckpt") == {"n": 1}
