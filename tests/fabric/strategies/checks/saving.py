"""Checkpoints in one file and in shards, between any numbers of processes."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.fabric.strategies.checks.parallel import PLAN
from tests.fabric.strategies.ranks import joined
from tests.fabric.strategies.samples import (
    CPU,
    TiedNet,
    batches,
    reference,
    same,
    train,
)
from torch import nn
from torch.optim import AdamW

from blixt.fabric import CheckpointError
from blixt.fabric.checkpoint import AsyncCheckpointIO, is_complete
from blixt.fabric.mesh import Parallel
from blixt.fabric.strategies import (
    DDPStrategy,
    FSDPStrategy,
    ParallelStrategy,
    Strategy,
)


def content_of(strategy: Strategy, module: nn.Module, optimizer: Any) -> dict[str, Any]:
    """What a Trainer would save."""
    return {
        "state_dict": strategy.module_state(module),
        "optimizer_states": [strategy.optimizer_state(module, optimizer)],
        "epoch": 7,
        "rng": torch.arange(3),
    }


def restored(strategy: Strategy, path: Path) -> tuple[nn.Module, Any, dict[str, Any]]:
    """A fresh model and optimizer with what `path` holds."""
    torch.manual_seed(99)
    module = strategy.shard(TiedNet(), CPU)
    optimizer = AdamW(module.parameters(), lr=1.0)
    content = strategy.load_checkpoint(path)
    strategy.load_module_state(module, content["state_dict"])
    strategy.load_optimizer_state(module, optimizer, content["optimizer_states"][0])
    return module, optimizer, content


def assert_reference(strategy: Strategy, module: nn.Module, optimizer: Any) -> None:
    """The state is the one that the reference training ends with."""
    weights, states, _ = reference()
    own, own_states = strategy.module_state(module), strategy.optimizer_state(module, optimizer)
    if strategy.world.rank == 0:
        same(own, {name: value for name, value in weights.items() if name != "seen"})
        same(own_states["state"], states["state"])
        assert own_states["param_groups"] == states["param_groups"]


def shared_folder(folder: Path) -> Path:
    """Where the launch with four ranks leaves what others read."""
    return Path(os.environ["BLIXT_TEST_SHARED"])


def check_saving_with_four(rank: int, folder: Path) -> list[str]:
    shared = shared_folder(folder)
    sharded = joined(FSDPStrategy(state_dict_type="sharded"))
    trained = train(sharded)
    sharded.save_checkpoint(shared / "four.ckpt", content_of(sharded, *trained[:2]))
    assert is_complete(shared / "four.ckpt")
    full = joined(FSDPStrategy())
    full.save_checkpoint(shared / "full.ckpt", content_of(full, *trained[:2]))
    hybrid = joined(
        ParallelStrategy(Parallel(dp_shard=2, tp=2), plan=PLAN, state_dict_type="sharded"),
    )
    trained = train(hybrid)
    hybrid.save_checkpoint(shared / "grid.ckpt", content_of(hybrid, *trained[:2]))
    return sorted(os.listdir(shared))


def check_loading_with_two(rank: int, folder: Path) -> None:
    for name in ("four.ckpt", "grid.ckpt", "full.ckpt"):
        strategy = joined(FSDPStrategy())
        module, optimizer, content = restored(strategy, shared_folder(folder) / name)
        assert content["epoch"] == 7
        assert content["rng"].tolist() == [0, 1, 2]
        assert_reference(strategy, module, optimizer)


def check_loading_shards_with_ddp(rank: int, folder: Path) -> None:
    strategy = joined(DDPStrategy())
    module, optimizer, _ = restored(strategy, shared_folder(folder) / "four.ckpt")
    assert_reference(strategy, module, optimizer)


def check_saving_shards_in_the_background(rank: int, folder: Path) -> list[str]:
    strategy = joined(FSDPStrategy(state_dict_type="sharded"), checkpoint_io=AsyncCheckpointIO())
    module, optimizer, _ = train(strategy)
    for round_ in range(2):
        strategy.save_checkpoint(folder / "a.ckpt", content_of(strategy, module, optimizer))
        run, _ = strategy.forward_of(module, "training_step", CPU)
        if round_ == 1:
            strategy.backward(run(batches()[0], 0))
            strategy.step(optimizer)
    strategy.checkpoint_io.teardown()
    torch.distributed.barrier()
    again = joined(FSDPStrategy())
    module, optimizer, _ = restored(again, folder / "a.ckpt")
    assert_reference(again, module, optimizer)
    return sorted(os.listdir(folder))


def check_a_failed_write_is_raised_on_all_ranks(rank: int, folder: Path) -> list[str]:
    said: list[str] = []
    (folder / "file").write_text("")
    for state_dict_type in ("full", "sharded"):
        strategy = joined(FSDPStrategy(state_dict_type=state_dict_type))
        module = strategy.shard(nn.Linear(4, 4), CPU)
        with pytest.raises(CheckpointError) as caught:
            strategy.save_checkpoint(
                folder / "file" / "a.ckpt", {"state_dict": strategy.module_state(module)}
            )
        said.append(str(caught.value))
    return said


def check_a_checkpoint_of_another_model_is_refused(rank: int, folder: Path) -> None:
    strategy = joined(FSDPStrategy(state_dict_type="sharded"))
    module = strategy.shard(nn.Linear(4, 4), CPU)
    strategy.save_checkpoint(folder / "a.ckpt", {"state_dict": strategy.module_state(module)})
    content = strategy.load_checkpoint(folder / "a.ckpt")
    with pytest.raises(CheckpointError, match=r"weight is \(4, 4\) there and \(5, 4\) here"):
        strategy.load_module_state(strategy.shard(nn.Linear(4, 5), CPU), content["state_dict"])
    with pytest.raises(RuntimeError, match=r"Unexpected key\(s\) in state_dict: \"bias\""):
        strategy.load_module_state(strategy.shard(nn.Linear(4, 4, bias=False), CPU), content["state_dict"])
