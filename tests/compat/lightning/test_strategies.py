"""What strategies become that are made with Lightning's arguments."""

from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.fsdp import CPUOffload, MixedPrecision, ShardingStrategy

from blixt import fabric
from blixt.compat.lightning.own.strategies import DDPStrategy, SingleDeviceStrategy
from blixt.compat.lightning.own.strategies_sharded import (
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
)
from blixt.fabric import ConfigError, Fabric

CPU = torch.device("cpu")


def test_a_timeout_and_a_start_method_mean_what_they_mean_there() -> None:
    made = DDPStrategy(timeout=timedelta(minutes=2), start_method="fork", static_graph=True)
    assert (made.timeout_s, made.launcher, made.ddp_options) == (120.0, "fork", {"static_graph": True})
    assert DDPStrategy(start_method="popen").launcher is None
    assert ModelParallelStrategy(timeout=timedelta(seconds=5)).timeout_s == 5.0
    assert SingleDeviceStrategy("cpu", precision_plugin=fabric.DoublePrecision()).precision is not None


def test_what_shards_in_the_first_way_is_told_to_the_second() -> None:
    layer = nn.Linear(2, 2)
    made = FSDPStrategy(
        sharding_strategy=ShardingStrategy.SHARD_GRAD_OP,
        cpu_offload=CPUOffload(offload_params=False),
        mixed_precision=MixedPrecision(param_dtype=torch.bfloat16, reduce_dtype=torch.float32),
        activation_checkpointing=nn.Linear,
        auto_wrap_policy=None,
        ignored_modules=[layer],
        limit_all_gathers=True,
        use_orig_params=True,
    )
    policy: Any = made.mixed_precision
    assert (made.sharding_strategy, made.reshard_after_forward, made.cpu_offload) == (
        "SHARD_GRAD_OP",
        False,
        False,
    )
    assert (policy.param_dtype, policy.reduce_dtype) == (torch.bfloat16, torch.float32)
    assert made.activation_checkpointing_policy == {nn.Linear}
    assert made.auto_wrap_policy == "blocks"
    assert made.fsdp_options == {"ignored_params": set(layer.parameters())}
    hybrid = FSDPStrategy(sharding_strategy=ShardingStrategy._HYBRID_SHARD_ZERO2)
    assert (hybrid.sharding_strategy, hybrid.reshard_after_forward) == ("HYBRID_SHARD", False)


def test_options_of_deepspeed_go_where_deepspeed_has_them() -> None:
    if find_spec("deepspeed") is None:
        pytest.skip("the optional package deepspeed is not installed")
    made = DeepSpeedStrategy(
        stage=3, allgather_bucket_size=5e8, cpu_checkpointing=True, offload_optimizer=True
    )
    assert (made.zero["stage"], made.zero["allgather_bucket_size"]) == (3, 500_000_000)
    assert made.zero["offload_optimizer"] == {"device": "cpu"}
    assert made.config["activation_checkpointing"] == {"cpu_checkpointing": True}


def test_devices_and_cluster_of_a_strategy_are_those_of_the_run() -> None:
    environment = fabric.LocalEnvironment()
    run = Fabric(strategy=DDPStrategy(parallel_devices=[CPU, CPU], cluster_environment=environment))
    assert (run.world_size, run.accelerator.name, run.environment) == (2, "cpu", environment)
    with pytest.raises(ConfigError, match="the strategy object brings 'cpu'"):
        Fabric(accelerator="cuda", strategy=DDPStrategy(parallel_devices=[CPU]))


def test_a_strategy_that_a_name_made_is_one_of_the_kind_and_not_of_a_users_own() -> None:
    class Mine(DDPStrategy):
        pass

    named = fabric.DDPStrategy()
    assert isinstance(named, DDPStrategy)
    assert not isinstance(named, (Mine, FSDPStrategy))
    assert not isinstance(fabric.SingleDeviceStrategy(), DDPStrategy)


@pytest.mark.parametrize("option", [{"timout": 3}, {"model_averaging_period": 4}])
def test_what_is_misspelt_or_not_carried_is_refused(option: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        DDPStrategy(**option)
