"""Strategies made with Lightning's own arguments, and what counts as one of them."""

import json
from datetime import timedelta

import torch
from lightning.fabric.strategies import DDPStrategy as FabricDDP
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.plugins import DoublePrecision
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import (
    DDPStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
    SingleDeviceStrategy,
)
from torch.distributed.fsdp import CPUOffload, MixedPrecision, ShardingStrategy
from torch.nn import Linear

LONG = timedelta(seconds=60)
CPU = torch.device("cpu")
QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
FORMS = {
    "ddp": lambda: DDPStrategy(timeout=LONG, process_group_backend="gloo", static_graph=True),
    "ddp start": lambda: DDPStrategy(start_method="spawn", find_unused_parameters=True),
    "ddp parts": lambda: DDPStrategy(
        cluster_environment=LightningEnvironment(), precision_plugin=DoublePrecision()
    ),
    "fabric ddp": lambda: FabricDDP(
        precision=DoublePrecision(), checkpoint_io=TorchCheckpointIO(), timeout=LONG
    ),
    "fsdp": lambda: FSDPStrategy(sharding_strategy=ShardingStrategy.SHARD_GRAD_OP, auto_wrap_policy={Linear}),
    "fsdp types": lambda: FSDPStrategy(
        mixed_precision=MixedPrecision(param_dtype=torch.bfloat16), timeout=LONG
    ),
    "fsdp offload": lambda: FSDPStrategy(
        cpu_offload=CPUOffload(offload_params=False), activation_checkpointing=Linear
    ),
    "fsdp old": lambda: FSDPStrategy(
        limit_all_gathers=True, use_orig_params=True, ignored_modules=[Linear(1, 1)]
    ),
    "fsdp two": lambda: FSDPStrategy(
        sharding_strategy="HYBRID_SHARD", device_mesh=(2, 2), state_dict_type="sharded"
    ),
    "grid": lambda: ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=2, timeout=LONG),
    "one": lambda: SingleDeviceStrategy(
        "cpu", accelerator=CPUAccelerator(), precision_plugin=DoublePrecision()
    ),
}


def answer(make):
    try:
        return type(make()).__name__
    except Exception:
        return "refused"


made = {name: answer(make) for name, make in FORMS.items()}
print(json.dumps(["made", made]))


class Mine(DDPStrategy):
    """A user's own."""

    def __init__(self, **kwargs):
        super().__init__(timeout=LONG, **kwargs)


named = Trainer(accelerator="cpu", devices=2, strategy="ddp", **QUIET).strategy
print(json.dumps(["kinds", [isinstance(named, kind) for kind in (DDPStrategy, Mine, FSDPStrategy)]]))
brought = DDPStrategy(parallel_devices=[CPU, CPU], cluster_environment=LightningEnvironment())
trainer = Trainer(strategy=brought, **QUIET)
print(
    json.dumps(
        ["brought", trainer.world_size, type(trainer.accelerator).__name__, isinstance(brought, DDPStrategy)]
    )
)
try:
    Trainer(accelerator="cuda", strategy=DDPStrategy(parallel_devices=[CPU]), **QUIET)
    print(json.dumps(["contradiction", "taken"]))
except Exception:
    print(json.dumps(["contradiction", "refused"]))
