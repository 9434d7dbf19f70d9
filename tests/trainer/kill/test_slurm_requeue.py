"""A job on two nodes of a real Slurm is told to go, goes back into the queue, and ends as if nothing was."""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch

import slurm_cluster
from slurm_cluster import Slurm

from .conftest import ROOT
from .runs import Job, ask

DEADLINE_S = 360


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    reason = slurm_cluster.missing()
    if reason:
        pytest.skip(reason)
    with slurm_cluster.cluster(tmp_path_factory.mktemp("slurm"), nodes=2) as running:
        yield running


class Deadline:
    """One time limit for everything that is waited for, and what to say when it is over."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def until(self, condition: Callable[[], bool], said: Callable[[], str]) -> None:
        while not condition():
            assert time.monotonic() < self._end, said()[-3000:]
            time.sleep(0.2)


def _waits_s(job: str) -> float:
    """How long Slurm lets a job wait from now on, by what it shows of it; 0 when it does not know."""
    begin = re.search(r"StartTime=(\d\S+)", job)
    return (datetime.fromisoformat(begin[1]) - datetime.now()).total_seconds() if begin else 0.0


@pytest.mark.timeout(DEADLINE_S + 180)
def test_a_job_on_two_nodes_is_requeued_by_its_signal_and_resumes_exactly(
    cluster: Slurm, tmp_path: Path, server: Any
) -> None:
    assert ask(server, Job(str(tmp_path / "whole"), 2, 0)) == 0
    expected = torch.load(tmp_path / "whole" / "weights.pt")
    folder = tmp_path / "job"
    folder.mkdir()
    script, output = tmp_path / "job.sh", tmp_path / "output"
    script.write_text(
        f"#!/bin/sh\ncd {ROOT}\nexport OMP_NUM_THREADS=1\n"
        f"srun --kill-on-bad-exit=0 {sys.executable} -m tests.trainer.kill.slurm_task {folder}\n"
    )
    options = ["--nodes=2", "--ntasks-per-node=1", "--requeue", "--open-mode=append", f"--output={output}"]
    job = cluster.call("sbatch", "--parsable", *options, str(script)).strip()

    def state() -> str:
        return cluster.call("scontrol", "show", "job", job)

    def log() -> str:
        return (output.read_text()[-1500:] if output.exists() else "") + state()

    until = Deadline(DEADLINE_S).until
    until(lambda: all((folder / f"ready{rank}").exists() for rank in (0, 1)), log)
    cluster.call("scancel", "--signal=USR1", job)
    until(lambda: "JobState=PENDING" in state(), log)
    assert "Restarts=1" in state()
    assert [path.name for path in folder.glob("hpc_ckpt_*")] == ["hpc_ckpt_1.ckpt"]

    def resumed() -> bool:
        # Slurm lets a requeued job wait for two minutes, and may say so only when the old one is cleaned up.
        # Some seconds it must wait: begun in the second of the old one's end, it fails with a "credential
        # revoked".
        found = state()
        if "JobState=PENDING" in found and _waits_s(found) > 10:
            with suppress(AssertionError):  # it may have begun since
                cluster.call("scontrol", "update", f"JobId={job}", "StartTime=now+4")
        assert "JobState=FAILED" not in found, log()
        return (folder / "weights.pt").exists()

    until(resumed, log)
    until(lambda: "JobState=COMPLETED" in state(), log)
    weights = torch.load(folder / "weights.pt")
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    for rank in (0, 1):
        assert (folder / f"attempts{rank}").read_text().split() == ["0", "1"]
    assert os.path.exists(folder / "ckpt")
