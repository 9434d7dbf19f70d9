"""DDP: options, accumulation, communication hooks."""

from pathlib import Path
from typing import Any

import torch
from tests.fabric.strategies.ranks import joined
from tests.fabric.strategies.samples import (
    assert_same_training,
    train,
)
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook

from blixt.fabric.strategies import (
    DDPStrategy,
)


def check_ddp_with_all_its_options(rank: int, folder: Path) -> None:
    strategy = joined(
        DDPStrategy(static_graph=True, gradient_as_bucket_view=True, bucket_cap_mb=1, broadcast_buffers=False)
    )
    assert_same_training(strategy, train(strategy))


def check_ddp_accumulation(rank: int, folder: Path) -> None:
    strategy = joined(DDPStrategy())
    assert_same_training(strategy, train(strategy, accumulate=True))
    assert_same_training(strategy, train(strategy, accumulate=True, flush=True))


def check_ddp_comm_hook(rank: int, folder: Path) -> list[float]:
    strategy = joined(DDPStrategy(ddp_comm_hook=fp16_compress_hook))
    return train(strategy)[2]


def check_verbs(rank: int, folder: Path) -> dict[str, Any]:
    """What people ask a strategy to do between processes, as every process sees it."""
    strategy = joined(DDPStrategy())
    mine = torch.tensor([float(rank), 2.0])
    strategy.barrier("all here")
    return {
        "places": (strategy.global_rank, strategy.world_size, strategy.is_global_zero),
        "broadcast": strategy.broadcast({"rank": rank, "tensor": mine}, src=1)["rank"],
        "all_gather": strategy.all_gather({"a": mine})["a"].tolist(),
        "all_reduce": strategy.all_reduce(mine, "sum").tolist(),
        "reduce": strategy.reduce(mine).tolist(),
        "kept": mine.tolist(),
        "all": strategy.reduce_boolean_decision(rank == 0),
        "any": strategy.reduce_boolean_decision(rank == 0, all=False),
    }
