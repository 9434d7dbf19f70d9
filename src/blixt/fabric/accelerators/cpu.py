"""The processor: always there, one device however many processes share it."""

import os
from pathlib import Path
from typing import Any

import torch

from blixt.fabric.accelerators.base import Accelerator, Devices, device_indices, is_all


class CPUAccelerator(Accelerator):
    """`devices` counts processes, because they all share the one device."""

    name = "cpu"
    backend = "gloo"
    device_type = "cpu"

    def is_available(self) -> bool:
        """Always."""
        return True

    def auto_device_count(self) -> int:
        """One process unless more are asked for."""
        return 1

    def parse_devices(self, devices: Devices) -> list[int]:
        """One index a process."""
        return [0] if is_all(devices) else device_indices(devices)

    def device(self, index: int) -> torch.device:
        """The one device."""
        return torch.device("cpu")

    def get_device_stats(self, device: torch.device) -> dict[str, Any]:
        """Load of the last minute per core in percent, memory in use in percent, swap in use in percent.

        Memory is read from /proc and left out where there is none.
        """
        stats: dict[str, Any] = {}
        if hasattr(os, "getloadavg"):
            stats["cpu_percent"] = 100.0 * os.getloadavg()[0] / (os.cpu_count() or 1)
        memory = _memory_kib()
        if memory.get("MemTotal"):
            stats["cpu_vm_percent"] = 100.0 * (1 - memory["MemAvailable"] / memory["MemTotal"])
            swap = memory.get("SwapTotal", 0)
            stats["cpu_swap_percent"] = 100.0 * (1 - memory["SwapFree"] / swap) if swap else 0.0
        return stats


def _memory_kib() -> dict[str, int]:
    """The kernel's own account of memory; empty where there is none."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return {}
    fields = (line.split(":", 1) for line in lines if ":" in line)
    return {name: int(value.split()[0]) for name, value in fields}
