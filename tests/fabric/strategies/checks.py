"""What ranks do together; `test_ranks.py` launches them and says what must come out."""

import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.fabric.strategies.ranks import joined
from tests.fabric.strategies.samples import (
    CPU,
    Block,
    TiedNet,
    assert_same_training,
    batches,
    chain,
    lm_loss,
    reference,
    same,
    train,
)
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.optim import AdamW

from blixt.fabric import CheckpointError, ConfigError, Fabric
from blixt.fabric.checkpoint import AsyncCheckpointIO, is_complete
from blixt.fabric.mesh import Parallel
from blixt.fabric.precision import resolve_precision
from blixt.fabric.strategies import (
    DDPStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    ParallelStrategy,
    PipelineStrategy,
    SingleDeviceStrategy,
    Strategy,
)
from blixt.fabric.strategies.rebind import names_before, rebind

PLAN = {"layers.*.up": "colwise", "layers.*.down": "rowwise"}


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


def check_context_parallel(rank: int, folder: Path) -> list[int]:
    strategy = joined(ParallelStrategy(Parallel(cp=2)))
    assert isinstance(strategy, ParallelStrategy)
    tokens = torch.arange(16.0).view(1, 16)
    with strategy.context_parallel([tokens], [1]):
        inside = tokens.flatten().tolist()
    assert tokens.flatten().tolist() == list(range(16))
    return [int(value) for value in inside]


def pipelined(strategy: Strategy, *, traced: bool = False) -> tuple[nn.Module, Any, dict[str, Any]]:
    """Train a chain through a pipeline, or in one piece; two windows a step, as when accumulating."""
    torch.manual_seed(1)
    module: nn.Module = Wrapped() if traced else chain()
    optimizer = AdamW(module.parameters(), lr=0.01)
    names = names_before(module)
    module = strategy.shard(module, CPU)
    rebind(optimizer, names, module)
    facts: dict[str, Any] = {"losses": [], "norms": []}

    def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return module(x, target=y) if strategy.name == "pipeline" else lm_loss(module(x), y)

    for batch in batches(2):
        mine = batch.chunk(strategy.data_parallel_size)[strategy.data_parallel_rank]
        optimizer.zero_grad()
        for _ in range(2):
            loss = loss_of(mine[:, :-1], mine[:, 1:]) / 2
            strategy.backward(loss)
        facts["losses"].append(float(loss.detach()))
        facts["norms"].append(float(strategy.clip_norm(module.parameters(), 0.5)))
        strategy.step(optimizer)
    module.eval()
    with torch.no_grad():
        facts["output"] = module(batches()[0][:6, :-1])
        facts["loss"] = float(loss_of(batches()[0][:6, :-1], batches()[0][:6, 1:]))
    return module, optimizer, facts


class Wrapped(nn.Module):
    """A chain that is no `nn.Sequential`."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.layers = nn.ModuleList(Block(6) for _ in range(3))
        self.head = nn.Linear(6, 11)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def compare_pipeline(strategy: PipelineStrategy, *, traced: bool = False) -> None:
    """The pipeline trains as one process does, and its checkpoint is that of one process."""
    whole, whole_optimizer, expected = pipelined(SingleDeviceStrategy(), traced=traced)
    joined(strategy)
    module, optimizer, facts = pipelined(strategy, traced=traced)
    if strategy.data_parallel_size > 1:
        facts["losses"] = expected["losses"]  # those of other data
    for name, values in expected.items():
        torch.testing.assert_close(
            torch.as_tensor(facts[name]), torch.as_tensor(values), rtol=1e-3, atol=1e-4
        )
    weights, state = strategy.module_state(module), strategy.optimizer_state(module, optimizer)
    if strategy.world.rank == 0:
        assert list(weights) == list(whole.state_dict())
        same(weights, whole.state_dict())
        assert state["param_groups"] == whole_optimizer.state_dict()["param_groups"]
        same(state["state"], whole_optimizer.state_dict()["state"])
    fresh_optimizer = AdamW(module.parameters(), lr=1.0)
    strategy.load_module_state(module, whole.state_dict())
    strategy.load_optimizer_state(module, fresh_optimizer, whole_optimizer.state_dict())
    again = strategy.optimizer_state(module, fresh_optimizer)
    if strategy.world.rank == 0:
        same(again["state"], whole_optimizer.state_dict()["state"])
        assert again["param_groups"][0]["lr"] == 0.01


def check_pipeline_1f1b(rank: int, folder: Path) -> None:
    compare_pipeline(PipelineStrategy(loss_fn=lm_loss))


def check_pipeline_gpipe(rank: int, folder: Path) -> None:
    compare_pipeline(PipelineStrategy(schedule="GPipe", loss_fn=lm_loss, split_points=["3"]))


def check_pipeline_interleaved(rank: int, folder: Path) -> None:
    compare_pipeline(PipelineStrategy(schedule="interleaved1f1b", loss_fn=lm_loss))


def check_pipeline_traced(rank: int, folder: Path) -> None:
    example = (torch.zeros(2, 6, dtype=torch.long),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's tracer uses its own deprecated parts
        strategy = PipelineStrategy(loss_fn=lm_loss, split_points=["layers.1"], example_args=example)
        compare_pipeline(strategy, traced=True)


def check_pipeline_and_shards(rank: int, folder: Path) -> None:
    strategy = PipelineStrategy(Parallel(dp_shard=2, pp=2), microbatches=2, loss_fn=lm_loss)
    compare_pipeline(strategy)


class WithPipeline(nn.Module):
    """As a Trainer's module: only one attribute is divided."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.model = chain()

    def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
        """The loss, from the pipeline."""
        return self.model(batch[:, :-1], target=batch[:, 1:])


def check_pipeline_inside_a_module(rank: int, folder: Path) -> list[str]:
    strategy = joined(PipelineStrategy(module="model", loss_fn=lm_loss, state_dict_type="sharded"))
    torch.manual_seed(1)
    module = strategy.shard(WithPipeline(), CPU)
    optimizer = AdamW(module.parameters(), lr=0.01)
    run, no_sync = strategy.forward_of(module, "training_step", CPU)
    with no_sync():
        strategy.backward(run(batches()[0], 0))
    strategy.step(optimizer)
    content = {
        "state_dict": strategy.module_state(module),
        "optimizer_states": [strategy.optimizer_state(module, optimizer)],
        "epoch": 3,
    }
    strategy.save_checkpoint(folder / "pipe.ckpt", content)
    again = strategy.load_checkpoint(folder / "pipe.ckpt")
    fresh = AdamW(module.parameters(), lr=1.0)
    kept = {name: value.clone() for name, value in module.state_dict().items()}
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    strategy.load_module_state(module, again["state_dict"])
    strategy.load_optimizer_state(module, fresh, again["optimizer_states"][0])
    same(module.state_dict(), kept)
    same(fresh.state_dict()["state"], optimizer.state_dict()["state"])
    assert fresh.param_groups[0]["lr"] == 0.01
    return list(again["state_dict"])


def check_pipeline_refusals(rank: int, folder: Path) -> None:
    strategy = joined(PipelineStrategy(loss_fn=lm_loss, microbatches=2))
    module = strategy.shard(chain(), CPU)
    with pytest.raises(ConfigError, match="only the last stage can compute"):
        module(batches()[0])
    with pytest.raises(ConfigError, match="divides its inputs along their first dimension"):
        module(torch.zeros(2, 3), torch.zeros(3, 3), target=0)
    with pytest.raises(ConfigError, match="something has to say where it is divided"):
        strategy.shard(TiedNet(), CPU)
    with pytest.raises(ConfigError, match="2 stages need 1 points between them"):
        joined(PipelineStrategy(split_points=["1", "2"])).shard(chain(), CPU)
    with pytest.raises(ConfigError, match=r"has no submodule of this name\. Did you mean 'model'"):
        joined(PipelineStrategy(module="modell")).shard(WithPipeline(), CPU)
    with pytest.raises(ConfigError, match="2 stages need at least as many micro-batches"):
        joined(PipelineStrategy(microbatches=1))
    with pytest.raises(ConfigError, match="sharded over data only"):
        joined(PipelineStrategy(Parallel(dp_shard=1, tp=2, pp=-1)))


def check_hsdp(rank: int, folder: Path) -> tuple[int, int]:
    strategy = joined(FSDPStrategy(parallel=Parallel(dp_replicate=2)))
    assert_same_training(strategy, train(strategy, accumulate=True, flush=True))
    return strategy.data_parallel_rank, strategy.data_parallel_size


def check_grid(rank: int, folder: Path) -> tuple[int, int]:
    strategy = joined(ParallelStrategy(Parallel(dp_shard=2, tp=2), plan=PLAN))
    assert_same_training(strategy, train(strategy))
    return strategy.data_parallel_rank, strategy.data_parallel_size


# --- checkpoints ----------------------------------------------------------------------------------


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
