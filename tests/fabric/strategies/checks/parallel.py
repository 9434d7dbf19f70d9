"""Tensor and context parallelism, plans and functions of the user's."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.fabric.strategies.ranks import joined
from tests.fabric.strategies.samples import (
    CPU,
    TiedNet,
    assert_same_training,
    train,
)
from torch import nn
from torch.nn import functional

from blixt.fabric import ConfigError
from blixt.fabric.mesh import Parallel
from blixt.fabric.strategies import (
    ModelParallelStrategy,
    ParallelStrategy,
)

PLAN = {"layers.*.up": "colwise", "layers.*.down": "rowwise"}


def check_tensor_parallel(rank: int, folder: Path) -> int:
    strategy = joined(ParallelStrategy(Parallel(tp=2), plan=PLAN))
    assert_same_training(strategy, train(strategy))
    return strategy.data_parallel_size


def check_parallelize_fn(rank: int, folder: Path) -> tuple[int, int]:
    from torch.distributed.fsdp import fully_shard

    def shard_it(module: nn.Module, mesh: Any) -> nn.Module:
        for layer in module.layers:
            fully_shard(layer, mesh=mesh["data_parallel"])
        return fully_shard(module, mesh=mesh["data_parallel"])

    strategy = joined(ModelParallelStrategy(shard_it, 2, 1, save_distributed_checkpoint=False))
    assert_same_training(strategy, train(strategy, accumulate=True))
    return strategy.data_parallel_rank, strategy.data_parallel_size


def check_wrong_plans(rank: int, folder: Path) -> None:
    def refused(plan: dict[str, str], words: str, module: nn.Module | None = None) -> None:
        strategy = joined(ParallelStrategy(Parallel(tp=2), plan=plan))
        with pytest.raises(ConfigError, match=words):
            strategy.shard(module or TiedNet(), CPU)

    refused({"layers.*.upp": "colwise"}, r"no submodule of this name\. Did you mean")
    refused({"layers.*.up": "columns"}, "there is no such style. Did you mean 'colwise'")
    refused({"layers.*.up": "colwise"}, "cannot be divided by 2 processes", _odd())
    with pytest.raises(ConfigError, match="nothing says how layers are shared"):
        joined(ParallelStrategy(Parallel(tp=2)))


def _odd() -> nn.Module:
    module = TiedNet()
    module.layers[0].up = nn.Linear(6, 23)
    return module


def check_waits_along_each_axis(rank: int, folder: Path) -> set[float]:
    strategy = joined(ParallelStrategy(Parallel(dp_shard=2), plan=None))
    found: set[float] = set()
    for group in strategy.device_mesh.get_all_groups():
        backend: Any = group._get_backend(CPU)
        found.add(backend.options._timeout.total_seconds())
    return found


def check_attention_over_divided_sequences(rank: int, folder: Path) -> list[float]:
    """Outputs and gradients of each part are those of one process; returns what other lengths are told."""
    strategy = joined(ParallelStrategy(Parallel(cp=2)))
    assert isinstance(strategy, ParallelStrategy)
    worst: list[float] = []
    for causal in (False, True):
        torch.manual_seed(5)
        words, weight = torch.randn(2, 3, 8, 4), torch.randn(4, 4, requires_grad=True)

        def attend(x: torch.Tensor, weight: torch.Tensor = weight, causal: bool = causal) -> torch.Tensor:
            return functional.scaled_dot_product_attention(x @ weight, x, x.sin() @ weight, is_causal=causal)

        expected = attend(words)
        (expected_grad,) = torch.autograd.grad(expected.pow(2).sum(), weight)
        part = words.clone()
        with strategy.context_parallel([part], [2], restore=False):
            output = attend(part)
        output.pow(2).sum().backward()
        assert weight.grad is not None
        torch.distributed.all_reduce(weight.grad)
        worst.append(float((output - expected.chunk(2, 2)[rank]).abs().max().detach()))
        worst.append(float((weight.grad - expected_grad).abs().max() / expected_grad.abs().max()))
    with (
        pytest.raises(ConfigError, match=r"length 7.*cannot be divided by 2 processes"),
        strategy.context_parallel([torch.zeros(1, 7)], [1]),
    ):
        pass
    with (
        strategy.context_parallel([torch.zeros(1, 8)], [1]),
        pytest.raises(ConfigError, match="a mask of one's own is not divided"),
    ):
        functional.scaled_dot_product_attention(words, words, words, attn_mask=torch.ones(8, 8).bool())
    return worst


def check_context_parallel(rank: int, folder: Path) -> list[int]:
    strategy = joined(ParallelStrategy(Parallel(cp=2)))
    assert isinstance(strategy, ParallelStrategy)
    tokens = torch.arange(16.0).view(1, 16)
    with strategy.context_parallel([tokens], [1]):
        inside = tokens.flatten().tolist()
    assert tokens.flatten().tolist() == list(range(16))
    return [int(value) for value in inside]


def check_grid(rank: int, folder: Path) -> tuple[int, int]:
    strategy = joined(ParallelStrategy(Parallel(dp_shard=2, tp=2), plan=PLAN))
    assert_same_training(strategy, train(strategy))
    return strategy.data_parallel_rank, strategy.data_parallel_size
