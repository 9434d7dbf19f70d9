"""Which argument wins: devices in every form, accelerators of other packages, plug-ins, LT_ variables."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from blixt.fabric import (
    ACCELERATORS,
    Accelerator,
    ConfigError,
    Fabric,
    WrongTypeError,
    find_usable_cuda_devices,
    unregister_strategy,
)
from blixt.fabric.accelerators import CPUAccelerator, CUDAAccelerator, MPSAccelerator, registry
from blixt.fabric.checkpoint.plugin import TorchCheckpointIO
from blixt.fabric.cluster import LocalEnvironment
from blixt.fabric.plan import resolve_plan
from blixt.fabric.precision import Float8Precision
from blixt.fabric.strategies import DDPStrategy, SingleDeviceStrategy, TorchSyncBatchNorm
from blixt.trainer import Trainer


class Abacus(Accelerator):
    """An accelerator of another package."""

    name = "abacus"
    backend = "gloo"
    device_type = "cpu"
    here = True

    def is_available(self) -> bool:
        return self.here

    def auto_device_count(self) -> int:
        return 4

    def device(self, index: int) -> torch.device:
        return torch.device("cpu", index)

    def get_device_stats(self, device: torch.device) -> dict[str, Any]:
        return {"beads": 10}


@pytest.fixture
def abacus() -> Iterator[Abacus]:
    made = Abacus()
    ACCELERATORS.register(made, "beads")
    yield made
    ACCELERATORS.unregister("abacus")


@pytest.mark.parametrize(
    ("devices", "indices"),
    [
        (2, [0, 1]),
        ("2", [0, 1]),
        ("0,1", [0, 1]),
        ("1,", [1]),
        ("0, 3", [0, 3]),
        ([1, 3], [1, 3]),
        ((2,), [2]),
        (-1, [0, 1, 2, 3]),
        ("-1", [0, 1, 2, 3]),
        ("auto", [0, 1, 2, 3]),
    ],
)
def test_devices_may_be_counted_listed_or_left_open(devices: Any, indices: list[int], abacus: Abacus) -> None:
    assert resolve_plan("abacus", devices=devices).device_indices == indices


@pytest.mark.parametrize(
    ("devices", "sentence"),
    [
        (0, "at least one device"),
        ([], "at least one device"),
        ("0", "at least one device"),
        (5, "has 4 abacus device"),
        ([4], "has 4 abacus device"),
        ([1, 1], "distinct"),
        ([-1], "not negative"),
        (True, "a number or a list"),
        (None, "no number of devices"),
        (1.5, "no number of devices"),
        ("two", "neither a number nor a list"),
        ([0.5], "a whole number"),
        (["0"], "a whole number"),
    ],
)
def test_devices_that_cannot_be_are_refused(devices: Any, sentence: str, abacus: Abacus) -> None:
    with pytest.raises(ConfigError, match=sentence):
        resolve_plan("abacus", devices=devices)


def test_an_accelerator_of_another_package_is_used_by_name_alias_and_object(abacus: Abacus) -> None:
    for wanted in ("abacus", "beads", "ABACUS", abacus):
        run = Fabric(accelerator=wanted, devices=1)
        assert (run.accelerator, run.device.type, run.num_devices) == (abacus, "cpu", 1)
    assert run.accelerator.get_device_stats(run.device) == {"beads": 10}
    Abacus.here = False
    try:
        with pytest.raises(ConfigError, match="torch finds no abacus device"):
            Fabric(accelerator="abacus")
    finally:
        Abacus.here = True


TOY_XLA = """
from blixt.fabric import Accelerator, SingleDeviceStrategy, register_strategy


class XLAAccelerator(Accelerator):
    name, backend, device_type = "xla", "gloo", "cpu"

    def is_available(self):
        return True

    def auto_device_count(self):
        return 1


class XLAStrategy(SingleDeviceStrategy):
    name = "single_xla"


register_strategy("single_xla", XLAStrategy)
"""


@pytest.fixture
def installed_xla(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package is installed that brings the accelerator "xla" and a strategy; nobody has imported it."""
    (tmp_path / "toy_xla.py").write_text(TOY_XLA)
    note = tmp_path / "toy_xla-1.0.dist-info"
    note.mkdir()
    (note / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-xla\nVersion: 1.0\n")
    (note / "entry_points.txt").write_text("[blixt.accelerators]\nxla = toy_xla:XLAAccelerator\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "ACCELERATORS", registry._built_in())
    yield
    unregister_strategy("single_xla")
    sys.modules.pop("toy_xla", None)


@pytest.mark.parametrize("kind", [Fabric, Trainer])
def test_an_installed_package_brings_its_accelerator_and_strategy_by_name(
    kind: Any, installed_xla: None
) -> None:
    run = kind(accelerator="xla", strategy="single_xla", devices=1)
    assert type(run.accelerator).__name__ == "XLAAccelerator"
    assert type(run.strategy).__name__ == "XLAStrategy"
    if kind is Fabric:
        model, optimizer = run.setup(layer := nn.Linear(2, 1), torch.optim.SGD(layer.parameters(), lr=0.1))
        before = layer.weight.clone()
        run.backward(model(torch.ones(3, 2)).sum())
        optimizer.step()
        assert not torch.equal(before, layer.weight)


def test_one_process_works_on_the_device_that_was_chosen_and_so_does_its_strategy(abacus: Abacus) -> None:
    run = Fabric(accelerator="abacus", devices=[3])
    assert run.device == torch.device("cpu", 3)
    assert run.strategy.root_device == run.device


def test_auto_takes_a_registered_accelerator_only_if_it_asks_for_that(abacus: Abacus) -> None:
    assert resolve_plan("auto", devices=1).accelerator is not abacus
    ACCELERATORS.register(abacus, automatic=True)
    assert resolve_plan("auto", devices=1).accelerator is abacus


@pytest.mark.parametrize(
    ("accelerator", "kind", "sentence"),
    [
        ("cpuu", ConfigError, "Did you mean 'cpu'"),
        ("tpu", ConfigError, "Install a package that registers 'tpu'"),
        ("xla", ConfigError, "Install a package that registers 'xla'"),
        (3, WrongTypeError, "it is no accelerator"),
    ],
)
def test_an_accelerator_that_is_not_there_is_named(
    accelerator: Any, kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        Fabric(accelerator=accelerator)


def test_the_processor_tells_its_load_and_memory() -> None:
    stats = CPUAccelerator().get_device_stats(torch.device("cpu"))
    assert {"cpu_percent", "cpu_vm_percent", "cpu_swap_percent"} <= set(stats)
    assert 0 < stats["cpu_vm_percent"] < 100


@pytest.mark.skipif(torch.cuda.is_available(), reason="the machine has a GPU")
def test_without_a_gpu_everything_says_so() -> None:
    assert not CUDAAccelerator().is_available()
    assert find_usable_cuda_devices(0) == []
    with pytest.raises(ConfigError, match="0 visible CUDA device"):
        find_usable_cuda_devices()
    assert CUDAAccelerator().get_parallel_devices([0, 1]) == [
        torch.device("cuda", 0),
        torch.device("cuda", 1),
    ]
    assert MPSAccelerator().auto_device_count() == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_found_set_up_and_measured() -> None:
    assert find_usable_cuda_devices(1) == [0]
    run = Fabric(accelerator="cuda", devices=1)
    run.launch()
    model = run.setup(nn.Linear(2, 2))
    assert model(torch.ones(1, 2, device=run.device)).device.type == "cuda"
    assert run.accelerator.get_device_stats(run.device)["allocated_bytes.all.current"] > 0


def test_plugins_are_sorted_by_kind() -> None:
    environment, files, layers = LocalEnvironment(), TorchCheckpointIO(), TorchSyncBatchNorm()
    run = Fabric(accelerator="cpu", plugins=[environment, files, layers, Float8Precision()])
    assert run.environment is environment
    assert (run.strategy.checkpoint_io, run.strategy.layer_sync) == (files, layers)
    assert run.precision.name == "float8"
    with pytest.raises(ConfigError, match="only one CheckpointIO"):
        Fabric(accelerator="cpu", plugins=[files, TorchCheckpointIO()])
    with pytest.raises(WrongTypeError, match="a Precision, a ClusterEnvironment"):
        Fabric(accelerator="cpu", plugins=["bf16"])  # type: ignore[list-item]


def test_a_strategy_may_be_an_object_and_bring_its_device_and_precision() -> None:
    single = SingleDeviceStrategy(device="meta")
    assert Fabric(strategy=single).device.type == "meta"
    ddp = DDPStrategy(timeout_s=5)
    assert Fabric(accelerator="cpu", devices=2, strategy=ddp).strategy is ddp


def test_the_command_lines_variables_stand_in_for_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "ACCELERATOR": "cpu",
        "DEVICES": "3",
        "PRECISION": "bf16-mixed",
        "STRATEGY": "ddp",
    }.items():
        monkeypatch.setenv(f"LT_{name}", value)
    run = Fabric()
    assert (run.world_size, run.precision.name, run.strategy.name) == (3, "bf16-mixed", "ddp")
    assert Fabric(devices=2).num_devices == 3  # whoever starts a script has the last word
    monkeypatch.setenv("LT_CLI_USED", "1")
    with pytest.raises(ConfigError, match="the command line says '3'"):
        Fabric(devices=2)


@pytest.mark.parametrize("num_nodes", [0, -1, True, 1.5, "two"])
def test_machines_are_counted_in_whole_numbers(num_nodes: Any) -> None:
    with pytest.raises(ConfigError, match="it counts machines"):
        Fabric(accelerator="cpu", num_nodes=num_nodes)
