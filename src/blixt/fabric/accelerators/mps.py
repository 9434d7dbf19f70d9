"""The GPU of Apple's chips: one device, one process."""

from typing import Any

import torch

from blixt.fabric.accelerators.base import Accelerator


class MPSAccelerator(Accelerator):
    """Metal. Processes cannot train together on it."""

    name = "mps"
    backend = ""
    device_type = "mps"

    def is_available(self) -> bool:
        """Whether torch was built for Metal and this machine has it."""
        return torch.backends.mps.is_available()

    def auto_device_count(self) -> int:
        """One."""
        return 1

    def get_device_stats(self, device: torch.device) -> dict[str, Any]:
        """Memory that tensors take, and that the driver holds, in bytes."""
        return {
            "mps_allocated_bytes": torch.mps.current_allocated_memory(),
            "mps_driver_bytes": torch.mps.driver_allocated_memory(),
        }
