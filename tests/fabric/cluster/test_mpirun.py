"""A real `mpirun` starts the processes; they find each other by its environment alone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    shutil.which("mpirun") is None, reason="OpenMPI is not installed (Debian: openmpi-bin)"
)

SCRIPT = """
import torch
from blixt.fabric import Fabric

fabric = Fabric(accelerator="cpu", devices=2)
fabric.launch()

torch.manual_seed(0)
model = torch.nn.Linear(2, 1)
model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
fabric.backward(model(torch.full((4, 2), float(fabric.global_rank))).sum())
optimizer.step()
same = fabric.all_gather(model.weight.detach())
told = fabric.strategy.world
line = (told.started_by, told.rank, told.local_rank, told.node_rank, told.world_size)
print(*line, bool(torch.equal(same[0], same[1])), int(fabric.all_reduce(float(told.rank), "sum")))
"""


def test_two_processes_of_mpirun_train_together(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    unwanted = ("SLURM_", "OMPI_", "PMI", "MASTER_", "RANK", "WORLD_SIZE", "LOCAL_RANK")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    command = [
        "mpirun",
        *root,
        "--oversubscribe",
        "--bind-to",
        "none",
        "-np",
        "2",
        sys.executable,
        "script.py",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert sorted(line for line in done.stdout.splitlines() if line.startswith("mpi")) == [
        "mpi 0 0 0 2 True 1",
        "mpi 1 1 0 2 True 1",
    ]
