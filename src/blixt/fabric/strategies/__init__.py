"""How a model's parameters and gradients are shared among processes: one file per way."""

from blixt.fabric.strategies.base import Strategy
from blixt.fabric.strategies.ddp import DDPStrategy
from blixt.fabric.strategies.layer_sync import LayerSync, TorchSyncBatchNorm
from blixt.fabric.strategies.registry import resolve_strategy, strategy_names
from blixt.fabric.strategies.single import SingleDeviceStrategy

__all__ = [
    "DDPStrategy",
    "LayerSync",
    "SingleDeviceStrategy",
    "Strategy",
    "TorchSyncBatchNorm",
    "make_strategy",
    "resolve_strategy",
    "strategy_names",
]


def make_strategy(name: str) -> Strategy:
    """The strategy that a resolved plan names."""
    return resolve_strategy(name)
