"""One process, one device: nothing to share."""

import torch
from torch import nn

from blixt.fabric.strategies.base import Strategy


class SingleDeviceStrategy(Strategy):
    """Calls the module as it is."""

    name = "single_device"

    def wrap(self, module: nn.Module, device: torch.device) -> nn.Module:
        """The module itself."""
        return module
