"""The parts of strategies that one process can show."""

import warnings
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.fabric.strategies.samples import CPU, Block, TiedNet, chain
from torch import nn

from blixt.fabric import ConfigError, LaunchError, UnknownArgumentError
from blixt.fabric.cluster import World
from blixt.fabric.mesh import Parallel
from blixt.fabric.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    FSDPStrategy,
    ParallelStrategy,
    PipelineStrategy,
    SingleDeviceStrategy,
    Strategy,
    TorchSyncBatchNorm,
    resolve_strategy,
    strategy_names,
)
from blixt.fabric.strategies.materialize import materialize
from blixt.fabric.strategies.stages import merge_modules, split
from blixt.fabric.strategies.units import choose_units

# --- sizes ----------------------------------------------------------------------------------------


@given(st.sampled_from(["dp_replicate", "dp_shard", "tp", "cp", "pp"]), st.integers(1, 4), st.integers(1, 4))
def test_the_open_size_follows_from_the_others(open_name: str, known: int, left: int) -> None:
    other = "tp" if open_name != "tp" else "pp"
    sizes = {"dp_shard": 1, other: known, open_name: -1}
    assert getattr(Parallel(**sizes).resolve(known * left), open_name) == left


@pytest.mark.parametrize(
    ("sizes", "world_size", "words"),
    [
        ({"tp": 3}, 4, "tp=3 does not make 4 process"),
        ({"dp_shard": 2, "tp": 2}, 8, "Start 4, or change a size"),
        ({"tp": -1}, 4, "dp_shard is -1 as well"),
        ({"tp": 0}, 4, r"Parallel\(tp=0\)"),
        ({"tp": True}, 4, "a size is a number"),
    ],
)
def test_sizes_that_cannot_be_are_refused(sizes: dict[str, Any], world_size: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Parallel(**sizes).resolve(world_size)


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in strategy_names() if not name.startswith("deepspeed")])
def test_every_name_makes_a_strategy_of_that_family(name: str) -> None:
    strategy = resolve_strategy(name, 1)
    assert isinstance(strategy, Strategy)
    assert strategy.name in (name, name.split("_")[0], "single_device")


def test_parts_of_a_name_say_how_ddp_is_launched_and_what_it_looks_for() -> None:
    strategy = resolve_strategy("ddp_notebook_find_unused_parameters_true", 2)
    assert isinstance(strategy, DDPStrategy)
    assert (strategy.launcher, strategy.find_unused_parameters) == ("fork", True)
    assert resolve_strategy("ddp_spawn", 2).launcher == "spawn"
    assert resolve_strategy("ddp", 2).launcher is None
    offloading = resolve_strategy("fsdp_cpu_offload", 2)
    assert isinstance(offloading, FSDPStrategy)
    assert offloading.cpu_offload


@pytest.mark.skipif(find_spec("deepspeed") is None, reason="the optional package deepspeed is not installed")
def test_names_of_deepspeed_say_stage_and_offload() -> None:
    made = resolve_strategy("deepspeed_stage_3_offload", 2)
    assert isinstance(made, DeepSpeedStrategy)
    assert made.zero["offload_param"] == made.zero["offload_optimizer"] == {"device": "cpu"}
    with pytest.raises(ConfigError, match="ZeRO has stages 1, 2 and 3"):
        DeepSpeedStrategy(4)
    with pytest.raises(ConfigError, match="parameters leave the device in stage 3 only"):
        DeepSpeedStrategy(2, offload_parameters=True)


def test_without_deepspeed_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install deepspeed, or use strategy='fsdp'"):
        resolve_strategy("deepspeed", 2)


def test_auto_depends_on_the_number_of_processes() -> None:
    assert resolve_strategy("auto", 1).name == "single_device"
    assert resolve_strategy("auto", 2).name == "ddp"
    with pytest.raises(ConfigError, match="2 processes cannot share a single device"):
        resolve_strategy("single_device", 2)


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ("ddpp", "Did you mean 'ddp'"),
        ("fdsp", "Did you mean 'fsdp'"),
        ("xla", "Install a package that registers 'xla'"),
        ("single_xla", "Install a package that registers 'single_xla'"),
        (3, "neither a name nor a Strategy"),
    ],
)
def test_unknown_strategies_are_refused(strategy: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        resolve_strategy(strategy, 2)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DDPStrategy(static_grap=True), "Did you mean 'static_graph'"),
        (lambda: FSDPStrategy(auto_wrap_polcy=1), "Did you mean 'auto_wrap_policy'"),
    ],
)
def test_misspelt_options_are_refused(make: Any, words: str) -> None:
    with pytest.raises(UnknownArgumentError, match=words):
        make()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FSDPStrategy(sharding_strategy="NO_SHARD"), "Use strategy='ddp'"),
        (lambda: FSDPStrategy(sharding_strategy="HALF"), "Known are FULL_SHARD"),
        (lambda: FSDPStrategy(state_dict_type="half"), "Use 'full' or 'sharded'"),
        (lambda: FSDPStrategy(device_mesh=(1, 2), parallel=Parallel()), "Give one of the two"),
        (lambda: DDPStrategy(launcher="thread"), "there is no such launcher"),
        (lambda: ParallelStrategy(plan={}, parallelize_fn=lambda m, _: m), "Give one of the two"),
        (lambda: ParallelStrategy(Parallel(pp=2)), "Use PipelineStrategy"),
        (lambda: PipelineStrategy(schedule="2f2b"), "there is no such schedule. Did you mean '1f1b'"),
        (lambda: PipelineStrategy(schedule="1f1b", stages_per_rank=2), "has one stage a process"),
        (lambda: PipelineStrategy(microbatches=0), "Use 1 or more"),
    ],
)
def test_arguments_that_cannot_work_are_refused_when_the_strategy_is_made(make: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()


def test_a_timeout_may_be_a_timedelta() -> None:
    from datetime import timedelta

    assert DDPStrategy(timeout_s=timedelta(minutes=2)).timeout_s == 120


def test_a_group_of_another_run_is_refused_for_its_size() -> None:
    dist = torch.distributed
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        with pytest.raises(LaunchError, match="Rank 1 of 2 is in a process group of 1 already"):
            DDPStrategy().join_group(World(rank=1, world_size=2), "gloo")
    finally:
        dist.destroy_process_group()


# --- units ----------------------------------------------------------------------------------------


class Shared(nn.Module):
    """Two blocks, the second of which shares a weight with the head."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Block(4), Block(4)])
        self.head = nn.Linear(4, 16)
        self.layers[1].up.weight = self.head.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x)


def names_chosen(module: nn.Module, policy: Any) -> list[str]:
    names = {part: name for name, part in module.named_modules()}
    return [names[part] for part in choose_units(module, policy)]


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [
        ("blocks", ["layers.0", "layers.1"]),
        ({nn.Linear}, ["layers.0.up", "layers.0.down", "layers.1.up", "layers.1.down"]),
        (Block, ["layers.0", "layers.1"]),
        (200, ["layers.0", "layers.1"]),
        (lambda part: isinstance(part, nn.LayerNorm), ["layers.0.norm", "layers.1.norm"]),
        (lambda module, recurse, nonwrapped_numel: nonwrapped_numel > 300, ["layers.0", "layers.1"]),
        (None, []),
    ],
)
def test_policies_choose_units_from_the_inside_out_and_never_containers(
    policy: Any, chosen: list[str]
) -> None:
    assert names_chosen(TiedNet(), policy) == chosen


def test_torchs_wrap_policy_is_understood() -> None:
    from torch.distributed.fsdp.wrap import ModuleWrapPolicy

    assert names_chosen(TiedNet(), ModuleWrapPolicy({Block})) == ["layers.0", "layers.1"]


def test_a_unit_that_shares_a_parameter_with_the_outside_is_left_to_its_surroundings() -> None:
    assert names_chosen(Shared(), "blocks") == ["layers.0"]


def test_a_policy_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="it chooses no modules"):
        choose_units(TiedNet(), "transformer")  # pyright: ignore[reportArgumentType]


# --- stages ---------------------------------------------------------------------------------------


@given(st.integers(2, 9), st.integers(2, 5))
def test_a_sequence_is_divided_into_stages_that_keep_order_and_names(children: int, stages: int) -> None:
    module = nn.Sequential(*(nn.Linear(1, 1 + index % 3) for index in range(children)))
    if children < stages:
        with pytest.raises(ConfigError, match="need at least as many children"):
            split(module, stages, [0])
        return
    parts = split(module, stages, range(stages))
    names = [[name for name, _ in part.named_children()] for part in parts]
    assert all(names)
    assert [name for part in names for name in part] == [str(index) for index in range(children)]


def test_a_function_makes_the_stages_that_are_wanted() -> None:
    made: list[int] = []

    def stage(module: nn.Module, index: int, count: int) -> nn.Module:
        made.append(index)
        return nn.Identity()

    split(TiedNet(), 4, [1, 3], stage_fn=stage)
    assert made == [1, 3]


def test_unknown_split_points_are_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="there is no such child"):
        split(chain(), 2, [0], split_points=["layers"])


def test_merged_stages_have_the_names_of_the_whole() -> None:
    module = chain()
    parts = split(module, 3, [0, 2])
    merged = merge_modules(parts, nn.Module())
    kept = set(merged.state_dict())
    assert kept == {name for part in parts for name in part.state_dict()}
    assert kept < set(module.state_dict())


# --- memory and layers ----------------------------------------------------------------------------


def test_a_module_from_the_meta_device_gets_values_and_keeps_its_ties() -> None:
    with torch.device("meta"):
        module = TiedNet()
    with pytest.warns(UserWarning, match=r"the root \(TiedNet\) has no method reset_parameters"):
        materialize(module, CPU)
    assert module.head.weight is module.embed.weight
    assert torch.isfinite(module.layers[0].up.weight).all()


def test_empty_init_skips_the_filling_only() -> None:
    strategy = SingleDeviceStrategy()
    with strategy.init_context(CPU, empty_init=True):
        layer = nn.Linear(3, 3)
        drawn = torch.ones(2)
    assert layer.weight.device == CPU
    assert drawn.tolist() == [1, 1]
    before = torch.get_rng_state()
    with strategy.init_context(CPU, empty_init=True):
        nn.Linear(3, 3)
    assert torch.equal(before, torch.get_rng_state())


def test_batch_normalisation_is_synchronised_and_made_ordinary_again() -> None:
    module = nn.Sequential(nn.Conv1d(2, 3, 1), nn.BatchNorm1d(3))
    module(torch.randn(4, 2, 5))
    kept = {name: value.clone() for name, value in module.state_dict().items()}
    sync = TorchSyncBatchNorm()
    changed = sync.apply(module)
    assert isinstance(changed[1], nn.SyncBatchNorm)
    back = sync.revert(changed)
    assert not isinstance(back[1], nn.SyncBatchNorm)
    assert all(torch.equal(back.state_dict()[name], value) for name, value in kept.items())
    assert back(torch.randn(4, 2, 5)).shape == (4, 3, 5)


def test_layers_are_synchronised_only_among_several() -> None:
    strategy = SingleDeviceStrategy(layer_sync=TorchSyncBatchNorm())
    module = strategy.shard(nn.Sequential(nn.BatchNorm1d(3)), CPU)
    assert not isinstance(module[0], nn.SyncBatchNorm)


def test_ddp_of_one_process_needs_no_group_and_calls_the_module_itself() -> None:
    strategy = DDPStrategy()
    strategy.connect(World(), "gloo")
    module = TiedNet()
    assert strategy.wrap(module, CPU) is module
    assert strategy.forward_of(module, "training_step", CPU)[0] == module.training_step
    assert strategy.side_channel() is None
    assert not torch.distributed.is_initialized()


def test_clipping_bounds_norms_and_values() -> None:
    strategy = SingleDeviceStrategy()
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, -4.0])
    assert float(strategy.clip_norm([parameter], 1.0)) == pytest.approx(5.0)
    assert float(parameter.grad.norm()) == pytest.approx(1.0, abs=1e-4)
    strategy.clip_value([parameter], 0.5)
    assert parameter.grad.abs().max() <= 0.5


def test_what_strategies_share_costs_no_import_of_sharded_tensors() -> None:
    import subprocess
    import sys

    program = (
        "import sys, blixt.fabric.strategies, blixt.fabric.checkpoint, blixt.fabric.fabric;"
        "print([m for m in ('torch.distributed.tensor', 'torch.distributed.fsdp', 'deepspeed',"
        " 'torch.distributed.checkpoint', 'fsspec') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_one_process_can_be_sharded_over_itself() -> None:
    strategy = FSDPStrategy()
    strategy.connect(World(), "gloo")
    try:
        module = strategy.shard(TiedNet(), CPU)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run, _ = strategy.forward_of(module, "training_step", CPU)
            strategy.backward(run(torch.zeros(2, 5, dtype=torch.long), 0))
        assert set(strategy.module_state(module)) == set(TiedNet().state_dict())
    finally:
        strategy.disconnect()
