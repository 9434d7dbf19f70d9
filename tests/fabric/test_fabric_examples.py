"""The examples run as they are, shortened."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "fabric"


@pytest.mark.parametrize(
    ("script", "arguments", "said"),
    [
        ("reinforce.py", ["--iterations", "5", "--steps", "60"], "the pole stands"),
        ("active_learning.py", ["--rounds", "2", "--steps", "40"], "40 labels:"),
    ],
)
def test_the_example_runs_to_its_end(
    script: str,
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    assert said in capsys.readouterr().out


def test_the_raw_loop_starts_its_processes_itself(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "raw_loop.py"), "--epochs", "1", "--devices", "2"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=400)
    assert result.returncode == 0, result.stderr
    assert "done on 2 process(es)" in result.stdout
    assert (tmp_path / "runs" / "raw_loop" / "state.pt").exists()


def test_layers_shared_by_two_ranks_and_parameters_by_four(tmp_path: Path) -> None:
    script = [str(EXAMPLES / "fsdp_tp.py"), "--devices", "4", "--tp", "2", "--steps", "3"]
    assert "tensors of 4 rank(s) in one file" in run_ranks(script, tmp_path)


def test_a_pipeline_of_two_ranks(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    said = run_ranks([str(EXAMPLES / "pipeline.py"), "--devices", "2", "--epochs", "1"], tmp_path)
    assert "rank 1 holds 8970 parameters" in said
    assert "of the others right" in said


def run_ranks(script: list[str], folder: Path) -> str:
    """What the script prints; its ranks share one thread each."""
    result = subprocess.run(
        [sys.executable, *script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=400,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
