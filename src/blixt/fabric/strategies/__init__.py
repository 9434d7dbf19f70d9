"""How a model's parameters and gradients are shared among processes: one file per way."""

from blixt.fabric.strategies.base import Strategy
from blixt.fabric.strategies.ddp import DDPStrategy
from blixt.fabric.strategies.single import SingleDeviceStrategy

__all__ = ["DDPStrategy", "SingleDeviceStrategy", "Strategy", "make_strategy"]


def make_strategy(name: str) -> Strategy:
    """The strategy that a resolved plan names."""
    if name == "single_device":
        return SingleDeviceStrategy()
    return DDPStrategy(find_unused_parameters=name == "ddp_find_unused_parameters_true")
