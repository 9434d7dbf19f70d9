"""torchrun's elastic agent starts killed ranks again, and ckpt_path="auto" lets them go on exactly."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from .conftest import ROOT
from .runs import Job, ask


@pytest.mark.timeout(480)
def test_ranks_that_torchrun_starts_again_end_with_bitwise_the_same_weights(
    server: Any, tmp_path: Path
) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "restarted"
    folder.mkdir()
    assert ask(server, Job(str(whole), 2, 0)) == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    task = ["--max-restarts=1", "-m", "tests.trainer.kill.torchrun_task", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*torchrun, *task], capture_output=True, text=True, timeout=400, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in folder.glob("attempt*")) == ["attempt0", "attempt1"]
    again, expected = torch.load(folder / "weights.pt"), torch.load(whole / "weights.pt")
    assert all(torch.equal(again[name], expected[name]) for name in expected)
