"""Processes: started by a script itself, by torchrun, by the environment, or for a function."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from blixt.fabric import ConfigError, Fabric, LaunchError
from blixt.fabric.launch import rank_environment

SCRIPT = """
import json, os, sys
from pathlib import Path
import torch
from torch.utils.data import DataLoader
from blixt.fabric import Fabric, seed_everything

out, mode = Path(sys.argv[1]), sys.argv[2]
fabric = Fabric(accelerator="cpu", devices="auto" if mode == "outside" else 2)
fabric.launch()
if mode == "fail" and fabric.global_rank == 1:
    raise RuntimeError("rank one has had enough")
if mode == "vanish" and fabric.global_rank == 0:
    os.kill(os.getpid(), 9)
seed_everything(1)
model = torch.nn.Linear(4, 1)
model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
data = torch.arange(48.0).reshape(12, 4) / 48
loader = fabric.setup_dataloaders(DataLoader(data, 2))
losses = []
for batch in loader:
    loss = model(batch).square().mean()
    optimizer.zero_grad()
    fabric.backward(loss)
    optimizer.step()
    losses.append(float(fabric.all_reduce(loss.detach())))
with fabric.no_backward_sync(model):
    fabric.backward(model(torch.ones(1, 4) * (fabric.global_rank + 1)).sum())
local = model.weight.grad.clone()
state = {"model": model, "loader": loader, "note": "hello"}
fabric.save(out / "state.pt", state)
again = {"model": model, "loader": loader, "note": ""}
rest = fabric.load(out / "state.pt", again)
report = {
    "losses": losses,
    "world": fabric.world_size,
    "gathered": fabric.all_gather(torch.tensor([fabric.global_rank])).flatten().tolist(),
    "nested": fabric.all_reduce({"a": fabric.global_rank, "b": [torch.tensor(2.0)]}, "sum")["a"].item(),
    "greatest": float(fabric.all_reduce(float(fabric.global_rank), "max")),
    "message": fabric.broadcast(f"from {fabric.global_rank}", src=1),
    "unsynced": fabric.all_gather(local.sum()).tolist(),
    "note": again["note"],
}
with fabric.rank_zero_first():
    pass
(out / f"rank{fabric.global_rank}.json").write_text(json.dumps(report))
"""


def run(command: list[str], env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=200, env=env)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


def one_process_losses() -> list[float]:
    """The same training in this process, with batches as large as both ranks' together."""
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    fabric.seed_everything(1)
    model = torch.nn.Linear(4, 1)
    model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
    data = torch.arange(48.0).reshape(12, 4) / 48
    losses: list[float] = []
    for batch in data.split(4):
        loss = model(batch).square().mean()
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def check(folder: Path) -> None:
    reports: list[dict[str, Any]] = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert reports[0] == reports[1]
    report = reports[0]
    assert report["losses"] == pytest.approx(one_process_losses(), rel=1e-5)
    assert (report["world"], report["gathered"], report["nested"], report["greatest"]) == (2, [0, 1], 1, 1.0)
    assert (report["message"], report["note"]) == ("from 1", "hello")
    assert report["unsynced"][0] != report["unsynced"][1]


def test_a_script_that_launches_itself_trains_like_one_process_with_the_doubled_batch(
    script: Path, tmp_path: Path
) -> None:
    result = run([sys.executable, str(script), str(tmp_path), "inside"])
    assert result.returncode == 0, result.stderr
    check(tmp_path)


def test_torchrun_starts_the_ranks_just_as_well(script: Path, tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    result = run([*torchrun, str(script), str(tmp_path), "outside"])
    assert result.returncode == 0, result.stderr
    check(tmp_path)


def test_the_variables_of_a_blixt_job_are_enough(script: Path, tmp_path: Path) -> None:
    store = torch.distributed.TCPStore("127.0.0.1", 0, 2, is_master=True, wait_for_workers=False)
    ranks = [
        subprocess.Popen(
            [sys.executable, str(script), str(tmp_path), "outside"],
            env={**os.environ, **rank_environment(rank, 2, store.port)},
        )
        for rank in (0, 1)
    ]
    assert [rank.wait(120) for rank in ranks] == [0, 0]
    check(tmp_path)


@pytest.mark.parametrize(
    ("mode", "code", "said"),
    [("fail", 1, "rank one has had enough"), ("vanish", 137, "rank 0 (process")],
)
def test_a_failing_rank_brings_the_others_down_and_is_named(
    mode: str, code: int, said: str, script: Path, tmp_path: Path
) -> None:
    result = run([sys.executable, str(script), str(tmp_path), mode])
    assert result.returncode in (code, 1)
    assert said in result.stderr
    assert "the other ranks were stopped" in result.stderr


def double(fabric: Fabric, number: int) -> float:
    if number < 0 and fabric.global_rank == 1:
        raise ValueError("negative numbers are not doubled here")
    return float(fabric.all_reduce(float(number + fabric.global_rank), "sum"))


def test_a_function_runs_in_fresh_processes_and_rank_zeros_answer_comes_back() -> None:
    assert Fabric(accelerator="cpu", devices=2).launch(double, 5) == 11.0


def test_a_function_that_fails_in_one_process_is_an_error_here() -> None:
    with pytest.raises(LaunchError, match="negative numbers are not doubled here"):
        Fabric(accelerator="cpu", devices=2).launch(double, -1)


def test_a_function_runs_in_place_with_one_process() -> None:
    assert Fabric(accelerator="cpu", devices=1).launch(double, 5) == 5.0


def test_setting_up_without_launching_several_processes_says_what_to_do() -> None:
    with pytest.raises(LaunchError, match=r"Call fabric.launch\(\) before setup"):
        Fabric(accelerator="cpu", devices=2).setup(torch.nn.Linear(1, 1))


def test_an_environment_that_contradicts_the_arguments_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in rank_environment(0, 2, 1).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"started 2 process\(es\) on this machine"):
        Fabric(accelerator="cpu", devices=3)
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(ConfigError, match="ranks go from 0 to 1"):
        Fabric(accelerator="cpu")
    monkeypatch.delenv("MASTER_ADDR")
    with pytest.raises(ConfigError, match="lacks MASTER_ADDR"):
        Fabric(accelerator="cpu")
