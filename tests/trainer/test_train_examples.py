"""The examples run as they are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "train"
CLI_CONFIG = str(EXAMPLES / "config_cli" / "digits.yaml")


@pytest.mark.parametrize(
    ("script", "arguments", "said"),
    [
        ("digits.py", ["--epochs", "1"], "accuracy 0."),
        ("autoencoder.py", ["--epochs", "2"], "the program is in runs/autoencoder/model.pt2"),
        ("gan.py", ["--epochs", "2"], "116 optimizer steps; distance of the mean image 0."),
        ("transformer_lm.py", ["--steps", "8", "--width", "32", "--files", "12"], "bits per byte"),
    ],
)
def test_the_example_runs_to_its_end(script: str, arguments: list[str], said: str, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / script), *arguments]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=400, env=one_thread
    )
    assert result.returncode == 0, result.stderr
    assert said in result.stdout


def test_a_command_line_repeats_a_run_from_its_saved_configuration(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    program = [sys.executable, str(EXAMPLES / "config_cli" / "main.py")]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}

    def run(*words: str) -> str:
        result = subprocess.run(
            [*program, *words], cwd=tmp_path, capture_output=True, text=True, timeout=400, env=one_thread
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    run("fit", "--config", CLI_CONFIG, "--trainer.max_epochs=1", "--optimizer=SGD", "--optimizer.lr=0.5")
    saved = tmp_path / "runs" / "config_cli" / "version_0"
    said = run("test", "--config", str(saved / "config.yaml"), f"--ckpt_path={saved}/checkpoints/best.ckpt")
    assert "test_accuracy" in said
