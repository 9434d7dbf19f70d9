"""DeepSpeed's stages on two CPU ranks, compared with one process; its own package, really installed."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from tests.fabric.strategies.ranks import Reports, joined, run_checks
from tests.fabric.strategies.samples import CPU, batches, chain, lm_loss, same
from torch import nn
from torch.optim import AdamW, Optimizer

from blixt.fabric import ConfigError
from blixt.fabric.strategies import DeepSpeedStrategy, SingleDeviceStrategy, Strategy

pytestmark = pytest.mark.skipif(
    find_spec("deepspeed") is None, reason="the optional package deepspeed is not installed"
)


def trained(strategy: Strategy, *, accumulate: bool, inside: bool) -> tuple[nn.Module, Optimizer]:
    """Train a chain; `inside` makes it in the strategy's context."""
    torch.manual_seed(1)
    with strategy.init_context(CPU) if inside else torch.device("cpu"):
        module: nn.Module = chain()
    module = strategy.shard(module, CPU)
    [optimizer] = strategy.setup_optimizers(module, [AdamW(module.parameters(), lr=0.01)], CPU)
    run, no_sync = strategy.forward_of(module, "forward", CPU)
    parts = 2 if accumulate else 1
    for batch in batches(3):
        mine = batch.chunk(strategy.data_parallel_size)[strategy.data_parallel_rank]
        optimizer.zero_grad()
        *before, last = mine.chunk(parts)
        for part in before:
            with no_sync():
                strategy.backward(lm_loss(run(part[:, :-1]), part[:, 1:]) / parts)
        strategy.backward(lm_loss(run(last[:, :-1]), last[:, 1:]) / parts)
        strategy.clip_norm(module.parameters(), 0.5)
        strategy.step(optimizer)
    return module, optimizer


def compare(stage: int, *, accumulate: bool, inside: bool = False, offload: bool = False) -> None:
    """Weights, optimizer state and what comes back from them are those of one process."""
    single, single_optimizer = trained(SingleDeviceStrategy(), accumulate=False, inside=False)
    strategy = joined(DeepSpeedStrategy(stage, offload_optimizer=offload))
    module, optimizer = trained(strategy, accumulate=accumulate, inside=inside)
    assert isinstance(optimizer, AdamW)
    weights, state = strategy.module_state(module), strategy.optimizer_state(module, optimizer)
    same(weights, single.state_dict())
    same(state["state"], single_optimizer.state_dict()["state"])
    fresh = strategy.shard(chain(), CPU)
    [fresh_optimizer] = strategy.setup_optimizers(fresh, [AdamW(fresh.parameters(), lr=1.0)], CPU)
    strategy.load_module_state(fresh, single.state_dict())
    strategy.load_optimizer_state(fresh, fresh_optimizer, single_optimizer.state_dict())
    same(strategy.module_state(fresh), weights)
    same(strategy.optimizer_state(fresh, fresh_optimizer)["state"], state["state"])
    assert fresh_optimizer.param_groups[0]["lr"] == 0.01


def check_stage_1(rank: int, folder: Path) -> None:
    compare(1, accumulate=True)


def check_stage_2(rank: int, folder: Path) -> None:
    compare(2, accumulate=True, offload=True)


def check_stage_3(rank: int, folder: Path) -> None:
    compare(3, accumulate=True, inside=True)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    checks = [check_stage_1, check_stage_2, check_stage_3]
    return run_checks(2, checks, tmp_path_factory.mktemp("two"))


@pytest.mark.parametrize("check", [check_stage_1, check_stage_2, check_stage_3])
def test_a_stage_trains_saves_and_loads_like_one_process(check: object, two: Reports) -> None:
    two.of(check)  # pyright: ignore[reportArgumentType]


def test_what_deepspeed_cannot_do_is_refused() -> None:
    strategy = DeepSpeedStrategy(2)
    module = chain()
    optimizers: list[Optimizer] = [AdamW(module.parameters()), AdamW(module.parameters())]
    with pytest.raises(ConfigError, match="an engine has one"):
        strategy.setup_optimizers(module, optimizers, CPU)
    with pytest.raises(ConfigError, match="does not clip single values"):
        strategy.clip_value(module.parameters(), 1.0)
    with pytest.raises(ConfigError, match="DeepSpeed clips by the 2-norm"):
        strategy.clip_norm(module.parameters(), 1.0, norm_type=1.0)


def test_a_configuration_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ConfigError, match=r"it cannot be read.*Give a JSON file"):
        DeepSpeedStrategy(config=tmp_path / "bad.json")
