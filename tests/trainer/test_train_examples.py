"""The examples run as they are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "train"


@pytest.mark.parametrize(
    ("script", "arguments", "said"),
    [
        ("digits.py", ["--epochs", "1"], "accuracy 0."),
        ("autoencoder.py", ["--epochs", "2"], "the program is in runs/autoencoder/model.pt2"),
        ("gan.py", ["--epochs", "2"], "116 optimizer steps; distance of the mean image 0."),
        ("raw_loop.py", ["--epochs", "2", "--devices", "2"], "on 2 process(es)"),
    ],
)
def test_the_example_runs_to_its_end(script: str, arguments: list[str], said: str, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / script), *arguments]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=one_thread
    )
    assert result.returncode == 0, result.stderr
    assert said in result.stdout
