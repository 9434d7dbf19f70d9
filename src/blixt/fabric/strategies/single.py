"""One process, one device: nothing to share."""

from typing import Any

import torch

from blixt.fabric.strategies.base import Strategy


class SingleDeviceStrategy(Strategy):
    """Calls the module as it is.

    Args:
        device: Where it runs, for people who choose it here; None leaves the choice to accelerator and
            devices.
    """

    name = "single_device"

    def __init__(self, device: str | torch.device | None = None, **plugins: Any) -> None:
        self.device = None if device is None else torch.device(device)
        self.configure(**plugins)

    @property
    def root_device(self) -> torch.device:
        """The device chosen here, or the CPU."""
        return self.device or super().root_device
