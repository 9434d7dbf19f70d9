"""Pipelines train, evaluate and save as one process does."""

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
    batches,
    chain,
    lm_loss,
    same,
)
from torch import nn
from torch.optim import AdamW

from blixt.fabric import ConfigError
from blixt.fabric.mesh import Parallel
from blixt.fabric.strategies import (
    PipelineStrategy,
    SingleDeviceStrategy,
    Strategy,
)
from blixt.fabric.strategies.rebind import names_before, rebind


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


def check_pipeline_zbvzerobubble(rank: int, folder: Path) -> None:
    compare_pipeline(PipelineStrategy(schedule="ZBVZeroBubble", loss_fn=lm_loss))


def check_pipeline_dualpipev(rank: int, folder: Path) -> None:
    compare_pipeline(PipelineStrategy(schedule="DualPipeV", loss_fn=lm_loss))


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
    with pytest.raises(ConfigError, match="4 stages need at least as many micro-batches"):
        joined(PipelineStrategy(schedule="dualpipev", microbatches=3))
    with pytest.raises(ConfigError, match="'zbvzerobubble' has two stages a process"):
        PipelineStrategy(schedule="zbvzerobubble", stages_per_rank=3)
    with pytest.raises(ConfigError, match="sharded over data only"):
        joined(PipelineStrategy(Parallel(dp_shard=1, tp=2, pp=-1)))
