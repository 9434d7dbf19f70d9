"""A real Jupyter kernel launches ranks by forking, answers and errors come back into the cell."""

from typing import Any

import nbclient
import nbformat
import pytest

CELLS = [
    """
import os
os.environ["OMP_NUM_THREADS"] = "1"
import torch
from blixt.fabric import Fabric
torch.nn.Linear(2, 2)(torch.ones(1, 2)).sum().backward()  # a notebook has usually computed something already
""",
    """
def train(fabric, scale):
    model = torch.nn.Linear(2, 1)
    model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
    loss = model(torch.ones(4, 2)).mean()
    fabric.backward(loss)
    optimizer.step()
    return float(fabric.all_reduce(scale * (fabric.global_rank + 1.0), "sum"))
""",
    "Fabric(accelerator='cpu', devices=2).launch(train, 2.0)",
    """
def fail(fabric):
    if fabric.global_rank == 1:
        raise ValueError("not in this notebook")
    fabric.barrier()

try:
    Fabric(accelerator='cpu', devices=2).launch(fail)
except RuntimeError as error:
    print(type(error).__name__, repr(error.__cause__), "Rank 1 failed" in str(error))
""",
    "Fabric(accelerator='cpu', devices=2).launch(train, 3.0)",
    """
import subprocess
Fabric(accelerator='cpu', devices=2).launch(lambda fabric: fabric.world_size),\\
    subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True).stdout.split()
""",
]


@pytest.fixture(scope="module")
def outputs() -> list[Any]:
    """What the cells printed or returned, run by one kernel."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    nbclient.NotebookClient(notebook, timeout=240, kernel_name="python3").execute()
    found: list[Any] = []
    for cell in notebook.cells:
        texts = [out.get("text") or out.get("data", {}).get("text/plain") for out in cell.outputs]
        found.append("".join(text for text in texts if text).strip())
    return found


def test_a_cell_gets_rank_zeros_answer_from_forked_ranks(outputs: list[Any]) -> None:
    assert outputs[2] == "6.0"


def test_an_error_in_a_rank_comes_back_and_the_kernel_goes_on(outputs: list[Any]) -> None:
    assert outputs[3] == "LaunchError ValueError('not in this notebook') True"
    assert outputs[4] == "9.0"


def test_functions_of_the_cell_need_no_pickling_and_leave_no_process(outputs: list[Any]) -> None:
    assert outputs[5] == "(2, [])"
