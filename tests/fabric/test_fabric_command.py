"""`blixt fabric run` starts a script's ranks, and says which one failed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file as read_safetensors
from typer.testing import CliRunner

from blixt.cli.fabric import app

SCRIPT = """
import json, sys
from pathlib import Path
from blixt.fabric import Fabric

fabric = Fabric()
fabric.launch()
if "--fail" in sys.argv and fabric.global_rank == 1:
    sys.exit(3)
report = [fabric.world_size, type(fabric.strategy).__name__, fabric.precision.name, sys.argv[1:]]
Path(sys.argv[1], f"{fabric.global_rank}.json").write_text(json.dumps(report))
fabric.barrier()
"""


def blixt(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", "from blixt.cli import main; main()", "fabric", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    return str(path)


def test_a_script_gets_ranks_choices_and_its_own_words(script: str, tmp_path: Path) -> None:
    options = ["--strategy", "ddp", "--devices=2", "--accelerator", "cpu", "--precision", "bf16-mixed"]
    done = blixt("run", *options, script, str(tmp_path), "--lr", "0.1")
    assert done.returncode == 0, done.stderr
    expected = [2, "DDPStrategy", "bf16-mixed", [str(tmp_path), "--lr", "0.1"]]
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)] == [expected] * 2


def test_a_rank_that_fails_gives_the_exit_code_and_is_named(script: str, tmp_path: Path) -> None:
    done = blixt("run", script, "--devices", "2", "--accelerator", "cpu", "--", str(tmp_path), "--fail")
    assert done.returncode == 3
    assert "rank 1 (process" in done.stderr
    assert "exited with code 3" in done.stderr


def test_a_missing_script_is_said_in_a_sentence() -> None:
    done = blixt("run", "nowhere.py")
    assert done.returncode == 2
    assert "There is no script nowhere.py." in done.stderr


def test_a_sharded_checkpoint_becomes_a_file_for_torch_or_weights_as_safetensors(tmp_path: Path) -> None:
    state = {"model": {"w": torch.ones(2), "b": torch.zeros(1)}, "step": 3}
    dcp.save(state, checkpoint_id=tmp_path / "last.ckpt", no_dist=True)
    for name in ("whole.pt", "w.safetensors"):
        given = [str(tmp_path / "last.ckpt"), "--output-file", str(tmp_path / name)]
        done = CliRunner().invoke(app, ["consolidate", *given])
        assert done.exit_code == 0, done.output
    whole = torch.load(tmp_path / "whole.pt", weights_only=True)
    assert whole["step"] == 3
    assert whole["model"]["w"].tolist() == [1, 1]
    assert sorted(read_safetensors(tmp_path / "w.safetensors")) == ["b", "w"]
