"""The table of a model, beside Lightning's."""

from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.utilities.model_summary import ModelSummary as Theirs
from torch import nn

from blixt.fabric import ConfigError
from blixt.trainer import Module
from blixt.trainer.summary import ModelSummary, get_human_readable_count, summarize


def net(base: type) -> Any:
    class Net(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8))
            self.twice = nn.LSTM(8, 3, batch_first=True)
            self.head = nn.Linear(3, 2)
            self.body[2].requires_grad_(False)
            self.unused = nn.Linear(2, 2).eval()
            self.example_input_array = torch.zeros(5, 7, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.twice(self.body(x))[0])

    return Net()


@pytest.mark.parametrize("depth", [0, 1, 2, -1])
def test_names_shapes_counts_and_operations_are_those_of_lightning(depth: int) -> None:
    ours, theirs = ModelSummary(net(Module), depth), Theirs(net(pl.LightningModule), depth)
    for name in (
        "layer_names",
        "layer_types",
        "in_sizes",
        "out_sizes",
        "param_nums",
        "total_parameters",
        "trainable_parameters",
        "training_modes",
        "total_flops",
        "model_size",
    ):
        assert getattr(ours, name) == getattr(theirs, name), name


def test_the_module_is_afterwards_as_it_was() -> None:
    module = net(Module)
    modes = [child.training for child in module.modules()]
    summarize(module, -1)
    assert [child.training for child in module.modules()] == modes
    assert not module.body[0]._forward_hooks


def test_without_an_example_shapes_are_unknown_and_left_out() -> None:
    text = str(summarize(nn.Sequential(nn.Linear(2, 3), nn.ReLU())))
    assert "In sizes" not in text
    assert text.splitlines()[0].split(" | ")[1:4] == ["Name", "Type  ", "Params"]


def test_parameters_that_are_shared_or_outside_of_layers_are_counted_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
            self.b.weight = self.a.weight
            self.own = nn.Parameter(torch.zeros(5))

    summary = ModelSummary(Tied())
    assert summary.total_parameters == 9
    assert ModelSummary(net(Module)).rows()[-1]["Name"] == "unused"

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.own = nn.Linear(2, 2), nn.Parameter(torch.zeros(5))

    last = ModelSummary(Own()).rows()[-1]
    assert (last["Name"], last["Params"]) == ("other params", "5")


def test_lazy_layers_are_told_and_do_not_count_yet() -> None:
    summary = ModelSummary(nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 1)))
    assert summary.param_nums == [-1, 4]
    assert summary.total_parameters == 4
    assert "lazy ones do not count yet" in str(summary)


def test_sharded_parameters_count_whole() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_module, distribute_tensor

    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))

        def shard(name: str, module: nn.Module, mesh: Any) -> None:
            for key, value in list(module.named_parameters(recurse=False)):
                whole = distribute_tensor(value.data, mesh, [Shard(0)])
                module.register_parameter(key, nn.Parameter(whole))

        module = distribute_module(nn.Sequential(nn.Linear(4, 6)), mesh, shard)
        assert ModelSummary(module).total_parameters == 30
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("example", "sizes"),
    [
        ((torch.zeros(2, 4), torch.zeros(2, 4)), [[2, 4], [2, 4]]),
        ({"a": torch.zeros(3, 4), "b": torch.zeros(3, 4)}, [[3, 4], [3, 4]]),
    ],
)
def test_examples_of_several_inputs_are_passed_as_forward_wants_them(example: Any, sizes: Any) -> None:
    class Adds(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a + b

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Adds()
            self.example_input_array = example

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return self.inner(a, b)

    assert ModelSummary(Outer()).in_sizes == [sizes]


def test_counts_are_short_and_a_depth_below_minus_one_is_refused() -> None:
    assert [get_human_readable_count(n) for n in (0, 999, 1500, 4 * 10**14, 10**15)] == [
        "0",
        "999",
        "1.5 K",
        "400 T",
        "1.0 P",
    ]
    with pytest.raises(ConfigError, match="Use -1 for all of them"):
        ModelSummary(nn.Linear(1, 1), -2)
