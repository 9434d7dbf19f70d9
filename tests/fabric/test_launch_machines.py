"""Several machines: a script started once on each, by hand or by a real mpiexec."""

import json
import os
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from blixt.fabric.cluster import free_port

SCRIPT = """
import json, os, sys
from pathlib import Path
import torch
from blixt.fabric import Fabric

folder, mode = Path(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
asked = {} if mode == "mpi" else {"devices": 2, "num_nodes": 2}
fabric = Fabric(accelerator="cpu", **asked)
fabric.launch()
(folder / f"{fabric.global_rank}.pid").write_text(str(os.getpid()))
total = fabric.all_reduce(torch.tensor(float(fabric.global_rank)), "sum")
if mode == "fail" and fabric.global_rank == 3:
    raise ValueError("the fourth rank gives up")
total = fabric.all_reduce(torch.tensor(float(fabric.global_rank)), "sum")
place = [fabric.global_rank, fabric.local_rank, fabric.node_rank, fabric.world_size, float(total)]
(folder / f"{fabric.global_rank}.json").write_text(json.dumps(place))
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    return path


def start(script: Path, mode: str) -> "list[subprocess.Popen[str]]":
    """Two machines, as two launchers on this one."""
    port = free_port()
    shared = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(script.parent), mode]
    return [
        subprocess.Popen(command, env={**shared, "NODE_RANK": str(node)}, stderr=subprocess.PIPE, text=True)
        for node in (0, 1)
    ]


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_script_started_on_two_machines_by_hand_is_one_world(script: Path) -> None:
    machines = start(script, "fine")
    errors = [machine.communicate(timeout=200)[1] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], errors
    places = [json.loads((script.parent / f"{rank}.json").read_text()) for rank in range(4)]
    assert places == [[0, 0, 0, 4, 6.0], [1, 1, 0, 4, 6.0], [2, 0, 1, 4, 6.0], [3, 1, 1, 4, 6.0]]


def test_a_rank_that_fails_on_one_machine_is_named_on_the_other_and_nobody_stays(script: Path) -> None:
    machines = start(script, "fail")
    errors = [machine.communicate(timeout=200)[1] for machine in machines]
    assert all(machine.returncode for machine in machines)
    assert "the fourth rank gives up" in errors[1]
    assert "rank 3 failed with ValueError: the fourth rank gives up" in errors[0]
    deadline = time.monotonic() + 60
    pids = [int(path.read_text()) for path in script.parent.glob("*.pid")]
    assert len(pids) == 4
    while not all(gone(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.02)


MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")


@pytest.mark.skipif(MPIEXEC is None, reason="needs an mpiexec, of OpenMPI or MPICH (pip install mpich)")
@pytest.mark.parametrize("machines", [1, 2])
def test_mpiexec_starts_the_ranks(script: Path, machines: int) -> None:
    if machines == 2 and find_spec("mpi4py") is None:
        pytest.skip("needs mpi4py to ask where rank 0 is")
    assert MPIEXEC is not None
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    spread = ["-launcher", "fork", "-hosts", "one,two", "-ppn", "1"] if machines == 2 else []
    command = [MPIEXEC, *spread, "-n", "2", sys.executable, str(script), str(script.parent), "mpi"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr
    places = [json.loads((script.parent / f"{rank}.json").read_text()) for rank in (0, 1)]
    local, node = (1, 0) if machines == 1 else (0, 1)
    assert places == [[0, 0, 0, 2, 1.0], [1, local, node, 2, 1.0]]
