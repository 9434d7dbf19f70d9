"""Fabric with one process: arguments, precision, clipping, files, random numbers."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from blixt.fabric import (
    CheckpointError,
    ConfigError,
    CSVLogger,
    Fabric,
    UnknownArgumentError,
    capture_rng,
    isolate_rng,
    restore_rng,
    seed_everything,
)
from blixt.fabric.checkpoint import load_file, save_file


def fabric(**options: object) -> Fabric:
    made = Fabric(**{"accelerator": "cpu", "devices": 1, **options})  # type: ignore[arg-type]
    made.launch()
    return made


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"accelerator": "cpuu"}, "Did you mean 'cpu'"),
        ({"strategy": "ddpp", "accelerator": "cpu"}, "Did you mean 'ddp'"),
        ({"precision": "bf17-mixed", "accelerator": "cpu"}, "Did you mean 'bf16-mixed'"),
        ({"devices": 0, "accelerator": "cpu"}, "at least one device is needed"),
        ({"devices": "two", "accelerator": "cpu"}, "neither a number nor a list"),
        ({"devices": [1, 1], "accelerator": "cpu"}, "must be distinct"),
        ({"devices": 2, "strategy": "single_device", "accelerator": "cpu"}, "cannot share a single device"),
        ({"num_nodes": 0, "accelerator": "cpu"}, "it counts machines"),
    ],
)
def test_an_argument_that_cannot_work_is_named_with_its_value_and_a_fix(
    options: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        Fabric(**options)  # type: ignore[arg-type]
    assert caught.value.argument in next(reversed(options)) or caught.value.argument in options


@pytest.mark.skipif(torch.cuda.is_available(), reason="the machine has a GPU")
def test_a_gpu_that_is_not_there_is_an_error_and_not_a_silent_cpu() -> None:
    with pytest.raises(ConfigError, match="no GPU on this machine"):
        Fabric(accelerator="gpu")


def test_an_unknown_argument_is_a_type_error_that_names_the_nearest() -> None:
    with pytest.raises(UnknownArgumentError, match="Did you mean 'precision'") as caught:
        Fabric(precison="32")  # type: ignore[arg-type]
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize("name", ["32", "32-true", 32, None])
def test_full_precision_has_many_names_and_scales_nothing(name: str | int | None) -> None:
    made = fabric(precision=name)
    assert (made.precision.name, made.scaler) == ("32-true", None)


def test_bf16_mixed_computes_in_bf16_and_gives_32_bit_outputs() -> None:
    seen: list[torch.dtype] = []

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.layer(x)
            seen.append(y.dtype)
            return y

    output = fabric(precision="bf16-mixed").setup(Net())(torch.ones(1, 4))
    assert (seen, output.dtype) == ([torch.bfloat16], torch.float32)


def test_clipping_by_value_bounds_every_gradient() -> None:
    run, model = fabric(), nn.Linear(4, 1)
    model, optimizer = run.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
    run.backward(model(torch.full((1, 4), 9.0)).sum())
    run.clip_gradients(model, optimizer, clip_val=0.25)
    assert float(model.weight.grad.max()) == 0.25
    with pytest.raises(ConfigError, match="Give clip_val or max_norm"):
        run.clip_gradients(model, optimizer)


def test_the_numbers_of_machines_and_devices_are_known_before_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = Fabric(accelerator="cpu", devices=2)
    assert (alone.num_nodes, alone.num_devices, alone.device_ids) == (1, 2, [0, 1])
    job = {"RANK": 3, "LOCAL_RANK": 1, "WORLD_SIZE": 4, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 1}
    for name, value in {**job, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    member = Fabric(accelerator="cpu")
    assert (member.num_nodes, member.num_devices, member.device_ids) == (2, 2, [0, 1])
    assert (member.node_rank, member.local_rank, member.global_rank) == (1, 1, 3)


def test_saving_and_loading_restores_objects_in_place_and_returns_the_rest(tmp_path: Path) -> None:
    run = fabric()
    model, other = nn.Linear(2, 1), nn.Linear(2, 1)
    run.save(tmp_path / "deep" / "state.pt", {"model": model, "step": 3, "extra": [1, 2]})
    state = {"model": other, "step": 0}
    assert run.load(tmp_path / "deep" / "state.pt", state) == {"extra": [1, 2]}
    assert state["step"] == 3
    assert torch.equal(other.weight, model.weight)
    with pytest.raises(CheckpointError, match="has no 'optimizer'"):
        run.load(tmp_path / "deep" / "state.pt", {"optimizer": None})


def test_loading_leniently_restores_what_the_file_has_in_the_order_of_the_objects(tmp_path: Path) -> None:
    restored: list[str] = []

    class Noting(nn.Linear):
        def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
            restored.append(self.purpose)
            return super().load_state_dict(*args, **kwargs)

    run, names = fabric(), ["c", "a", "d", "b"]
    run.save(tmp_path / "state.pt", {name: nn.Linear(1, 1) for name in sorted(names)})
    state: dict[str, Any] = {"absent": 7}
    for name in names:
        state[name] = Noting(1, 1)
        state[name].purpose = name
    assert run.load(tmp_path / "state.pt", state, strict=False, weights_only=True) == {}
    assert restored == names
    assert state["absent"] == 7


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    save_file(path, {"step": 1})
    with pytest.raises(Exception, match=r"pickle|lambda"):
        save_file(path, {"step": lambda: 2})
    assert load_file(path) == {"step": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.pt"]


def test_a_checkpoint_with_code_in_it_is_refused_unless_trusted(tmp_path: Path) -> None:
    save_file(tmp_path / "state.pt", {"path": Path("x")})
    with pytest.raises(CheckpointError, match="weights_only=False"):
        load_file(tmp_path / "state.pt")
    assert load_file(tmp_path / "state.pt", weights_only=False) == {"path": Path("x")}


def draw() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]


def test_random_numbers_of_all_generators_are_seeded_captured_restored_and_isolated() -> None:
    seed_everything(5)
    first = draw()
    state = capture_rng()
    second = draw()
    restore_rng(state)
    with isolate_rng():
        draw()
    assert draw() == second
    assert seed_everything() == 5
    assert draw() == first


def test_numbers_logged_through_fabric_reach_its_loggers(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="", version="run")
    run = fabric(loggers=logger)
    run.log("loss", torch.tensor(0.5), step=1)
    run.log_dict({"loss": 0.25, "accuracy": 1}, step=2)
    logger.finalize("success")
    lines = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert lines == ["accuracy,loss,step", ",0.5,1", "1,0.25,2"]
