"""The commands choose torch's threads before it is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from blixt.cli.llm_threads import set_threads, usable_cores


def machine(folder: Path, siblings: list[str], quota: str) -> tuple[Path, Path]:
    for number, text in enumerate(siblings):
        topology = folder / f"cpu{number}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(text + "\n")
    (folder / "cpu.max").write_text(quota + "\n")
    return folder, folder / "cpu.max"


@pytest.mark.parametrize(
    ("siblings", "quota", "cores"),
    [
        (["0-1", "0-1", "2-3", "2-3"], "max 100000", 2),
        (["0", "1", "2", "3"], "max 100000", 4),
        (["0", "1", "2", "3"], "250000 100000", 2),
        (["0", "1"], "50000 100000", 1),
    ],
)
def test_siblings_and_quotas_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, siblings: list[str], quota: str, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(len(siblings))), raising=False)
    assert usable_cores(*machine(tmp_path, siblings, quota)) == cores


def test_workers_divide_the_cores_and_what_is_said_from_outside_stays() -> None:
    environment: dict[str, str] = {}
    set_threads(3, environment, cores=8)
    assert environment == {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
    set_threads(1, environment, cores=8)
    assert environment["OMP_NUM_THREADS"] == "2"


def test_torch_heeds_what_the_commands_said() -> None:
    code = (
        "import sys, blixt.cli.llm; from blixt.cli.llm_threads import set_threads\n"
        "assert 'torch' not in sys.modules\n"
        "set_threads(cores=1); import torch; print(torch.get_num_threads())"
    )
    own = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    outside = {name: value for name, value in os.environ.items() if name not in own}
    run = subprocess.run([sys.executable, "-c", code], env=outside, capture_output=True, text=True)
    assert (run.returncode, run.stdout.strip()) == (0, "1")
