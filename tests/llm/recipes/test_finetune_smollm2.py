"""The whole way on a real model: finetune, merge, serve, and ask through OpenAI's client."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[3] / "examples" / "llm" / "finetune_smollm2.py"


@pytest.mark.timeout(600)
def test_smollm2_learns_from_packaged_chats_is_merged_served_and_answers() -> None:
    """Takes 30 s of one core: a model of 135 million parameters is trained, written and served."""
    options = ["--steps", "2", "--block-size", "64", "--batch-size", "1", "--max-tokens", "6"]
    ran = subprocess.run(
        [sys.executable, EXAMPLE, *options],
        capture_output=True,
        text=True,
        timeout=550,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert ran.returncode == 0, ran.stderr
    told = re.search(r"loss on held-out chats: ([\d.]+) -> ([\d.]+)", ran.stdout)
    assert told is not None, ran.stdout
    assert float(told[2]) < float(told[1])
    assert ran.stdout.splitlines()[-1].strip()
