"""FSDP and HSDP: units, precision, meta device, frozen and rebound parameters, and Fabric's own loop."""

import warnings
from pathlib import Path

import pytest
import torch
from tests.fabric.strategies.ranks import joined
from tests.fabric.strategies.samples import (
    CPU,
    Block,
    TiedNet,
    assert_same_training,
    batches,
    lm_loss,
    train,
)
from torch import nn
from torch.optim import AdamW

from blixt.fabric import ConfigError, Fabric
from blixt.fabric.mesh import Parallel
from blixt.fabric.precision import resolve_precision
from blixt.fabric.strategies import (
    FSDPStrategy,
)
from blixt.fabric.strategies.rebind import names_before, rebind


def check_fsdp(rank: int, folder: Path) -> int:
    strategy = joined(FSDPStrategy())
    trained = train(strategy)
    assert_same_training(strategy, trained)
    return sum(parameter.to_local().numel() for parameter in trained[0].parameters())


def check_fsdp_accumulation(rank: int, folder: Path) -> None:
    strategy = joined(FSDPStrategy())
    assert_same_training(strategy, train(strategy, accumulate=True))


def check_fsdp_flush(rank: int, folder: Path) -> None:
    strategy = joined(FSDPStrategy())
    assert_same_training(strategy, train(strategy, accumulate=True, flush=True))


def check_fsdp_options(rank: int, folder: Path) -> None:
    strategy = joined(
        FSDPStrategy(
            auto_wrap_policy={Block},
            activation_checkpointing_policy={Block},
            cpu_offload=True,
            reshard_after_forward=False,
        )
    )
    assert_same_training(strategy, train(strategy))


def check_fsdp_mixed_precision(rank: int, folder: Path) -> list[str]:
    strategy = joined(FSDPStrategy(), precision=resolve_precision("bf16-mixed"))
    module = strategy.shard(TiedNet(), CPU)
    seen: list[str] = []
    module.layers[0].up.register_forward_pre_hook(lambda part, args: seen.append(str(part.weight.dtype)))
    with torch.autocast("cpu", torch.bfloat16):
        loss = module.training_step(batches()[0], 0)
    strategy.backward(loss)
    return [*seen, str(module.layers[0].up.weight.grad.dtype)]


def check_fsdp_from_the_meta_device(rank: int, folder: Path) -> bool:
    strategy = joined(FSDPStrategy())
    with strategy.init_context(CPU, empty_init=True):
        module = TiedNet()
    assert module.embed.weight.is_meta
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `scale` and `seen` of the root have no reset_parameters
        module = strategy.shard(module, CPU)
    assert module.head.weight is module.embed.weight
    torch.manual_seed(0)
    strategy.load_module_state(module, TiedNet().state_dict())
    loss = module.training_step(batches()[0], 0)
    return bool(torch.isfinite(loss))


def check_ranks_that_drew_other_weights_start_from_rank_zeros(rank: int, folder: Path) -> float:
    strategy = joined(FSDPStrategy())
    torch.manual_seed(rank)
    module = strategy.shard(nn.Linear(5, 3), CPU)
    return float(strategy.clip_norm([_with_own_grad(p) for p in module.parameters()], 1e9))


def _with_own_grad(parameter: nn.Parameter) -> nn.Parameter:
    parameter.grad = parameter.detach().clone()
    return parameter


def check_frozen_and_sharded_twice(rank: int, folder: Path) -> None:
    strategy = joined(FSDPStrategy())
    module = TiedNet()
    module.layers[0].requires_grad_(False)
    first = strategy.shard(module, CPU)
    assert strategy.shard(first, CPU) is first
    run, _ = strategy.forward_of(first, "training_step", CPU)
    again, _ = strategy.forward_of(first, "training_step", CPU)
    assert run == again
    strategy.backward(run(batches()[0], 0))
    assert first.layers[0].up.weight.grad is None
    assert first.layers[1].up.weight.grad is not None


def check_rebinding(rank: int, folder: Path) -> None:
    strategy = joined(FSDPStrategy())
    module = TiedNet()
    used = AdamW(module.parameters())
    groups = [{"params": module.layers.parameters(), "lr": 0.5}, {"params": [module.embed.weight]}]
    optimizer = AdamW(groups)
    names = names_before(module)
    module.training_step(batches()[0], 0).backward()
    used.step()
    module = strategy.shard(module, CPU)
    rebind(optimizer, names, module)
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert optimizer.param_groups[1]["params"][0] is module.embed.weight
    with pytest.raises(ConfigError, match="Call setup before the first step"):
        rebind(used, names, module)
    with pytest.raises(ConfigError, match=r"1 of its parameters are not in the module"):
        rebind(AdamW(nn.Linear(1, 1, bias=False).parameters()), names, module)


def check_hsdp(rank: int, folder: Path) -> tuple[int, int]:
    strategy = joined(FSDPStrategy(parallel=Parallel(dp_replicate=2)))
    assert_same_training(strategy, train(strategy, accumulate=True, flush=True))
    return strategy.data_parallel_rank, strategy.data_parallel_size


def check_fabrics_own_loop(rank: int, folder: Path) -> list[float]:
    fabric = Fabric(accelerator="cpu", devices=2, strategy=FSDPStrategy(state_dict_type="sharded"))
    fabric.launch()
    torch.manual_seed(1)
    module = TiedNet()
    model, optimizer = fabric.setup(module, AdamW(module.parameters(), lr=0.01))
    losses: list[float] = []
    for batch in batches():
        mine = batch.chunk(2)[rank]
        optimizer.zero_grad()
        loss = lm_loss(model(mine[:, :-1]), mine[:, 1:])
        fabric.backward(loss)
        fabric.clip_gradients(model, optimizer, max_norm=0.5)
        optimizer.step()
        losses.append(float(fabric.all_reduce(loss.detach())))
    return losses
