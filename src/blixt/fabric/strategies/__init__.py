"""How a model's parameters and gradients are shared among processes: one file per way."""

from importlib import import_module
from typing import TYPE_CHECKING

from blixt.fabric.strategies.base import Strategy
from blixt.fabric.strategies.ddp import DDPStrategy
from blixt.fabric.strategies.layer_sync import LayerSync, TorchSyncBatchNorm
from blixt.fabric.strategies.registry import (
    register_strategy,
    resolve_strategy,
    strategy_names,
    unregister_strategy,
)
from blixt.fabric.strategies.single import SingleDeviceStrategy

if TYPE_CHECKING:
    from blixt.fabric.strategies.deepspeed import DeepSpeedStrategy
    from blixt.fabric.strategies.fsdp import FSDPStrategy
    from blixt.fabric.strategies.model_parallel import ModelParallelStrategy
    from blixt.fabric.strategies.parallel import ParallelStrategy
    from blixt.fabric.strategies.pipeline import PipelineStrategy

_FILE_OF = {
    "DeepSpeedStrategy": "deepspeed",
    "FSDPStrategy": "fsdp",
    "ModelParallelStrategy": "model_parallel",
    "ParallelStrategy": "parallel",
    "PipelineStrategy": "pipeline",
}

__all__ = [
    "DDPStrategy",
    "DeepSpeedStrategy",
    "FSDPStrategy",
    "LayerSync",
    "ModelParallelStrategy",
    "ParallelStrategy",
    "PipelineStrategy",
    "SingleDeviceStrategy",
    "Strategy",
    "TorchSyncBatchNorm",
    "register_strategy",
    "resolve_strategy",
    "strategy_names",
    "unregister_strategy",
]


def __getattr__(name: str) -> object:
    file = _FILE_OF.get(name)
    if file is None:
        raise AttributeError(f"module 'blixt.fabric.strategies' has no attribute {name!r}")
    value = getattr(import_module(f"blixt.fabric.strategies.{file}"), name)
    globals()[name] = value
    return value
