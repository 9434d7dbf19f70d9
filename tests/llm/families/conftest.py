"""Tiny checkpoints of every family, written once a run by transformers 5 and by transformers 4."""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from filelock import FileLock
from tests.llm.families.cases import cases_of
from tests.llm.families.published import PUBLISHED

from blixt.llm import load_checkpoint, save_checkpoint

ROOT = Path(__file__).parents[3]
TRANSFORMERS_4 = ROOT / ".venv" / "transformers4"
UNUSED = "accelerate bitsandbytes datasets deepspeed pandas peft scipy sklearn torchao torchaudio torchvision"
START = f"""
import sys
# Hidden from transformers, which would import them because they are there, and take twice the time to start.
sys.modules.update(dict.fromkeys("{UNUSED}".split()))
from tests.llm.families.oracle import main
main()
"""
DEADLINE_S = 500


def run_oracle(version: int, job: str, folder: Path, names: Iterable[str]) -> None:
    """Let one version of transformers do a job, case by case, in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    if version == 4:
        environment["PYTHONPATH"] = str(TRANSFORMERS_4)
    done = subprocess.run(
        [sys.executable, "-c", START, job, str(folder), *names],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this test run share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def written(version: int, factory: pytest.TempPathFactory) -> Path:
    """The folder of one version's checkpoints and references, made by whoever comes first."""
    folder = shared_folder(factory) / f"transformers{version}"
    with FileLock(f"{folder}.lock"):
        if not (folder / "written").exists():
            run_oracle(version, "write", folder, cases_of(version))
            (folder / "written").touch()
    return folder


def read_back(version: int, folder: Path) -> Path:
    """Save every case as blixt does and let transformers read it; the same folder."""
    with FileLock(f"{folder}.back.lock"):
        done = folder / "read"
        if not done.exists():
            for name in cases_of(version):
                if not (folder / name / "error.txt").exists():
                    save_checkpoint(load_checkpoint(folder / name / "model"), folder / name / "ours")
            run_oracle(version, "read", folder, cases_of(version))
            done.touch()
    return folder


@pytest.fixture(scope="session")
def more(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rotations that transformers 5 computes for published configurations, and a gpt-oss in MXFP4."""
    folder = shared_folder(tmp_path_factory) / "more"
    with FileLock(f"{folder}.lock"):
        if not (folder / "written").exists():
            run_oracle(5, "more", folder, ["gpt-oss-mxfp4", *(name for name in PUBLISHED if name != "gpt2")])
            (folder / "written").touch()
    return folder


@pytest.fixture(scope="session")
def lane5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What transformers 5 wrote and computed."""
    return written(5, tmp_path_factory)


@pytest.fixture(scope="session")
def lane5_back(lane5: Path) -> Path:
    """The same after transformers 5 has read what blixt saved."""
    return read_back(5, lane5)


@pytest.fixture(scope="session")
def lane4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What transformers 4 wrote and computed."""
    if not TRANSFORMERS_4.is_dir():
        pytest.skip(f"transformers 4 is not in {TRANSFORMERS_4}; `make` puts it there")
    return written(4, tmp_path_factory)


@pytest.fixture(scope="session")
def lane4_back(lane4: Path) -> Path:
    """The same after transformers 4 has read what blixt saved."""
    return read_back(4, lane4)
