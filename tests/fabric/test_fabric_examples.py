"""The examples run as they are, shortened."""

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
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert result.returncode == 0, result.stderr
    assert "done on 2 process(es)" in result.stdout
    assert (tmp_path / "runs" / "raw_loop" / "state.pt").exists()
