"""Which devices there are, and which of them the user asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from blixt.fabric.errors import ConfigError, nearest

AcceleratorName = Literal["auto", "cpu", "gpu", "cuda", "mps"]
Devices = int | str | list[int]


@dataclass(frozen=True)
class Accelerator:
    """One family of devices and the process-group backend that serves it."""

    name: str
    backend: str
    available: Callable[[], bool]
    count: Callable[[], int]

    def device(self, index: int) -> torch.device:
        """The torch device with this index; the CPU has only one, however many processes share it."""
        return torch.device("cpu") if self.name == "cpu" else torch.device(self.name, index)

    def activate(self, device: torch.device) -> None:
        """Make `device` the current one of its family in this process."""
        if device.type == "cuda":
            torch.cuda.set_device(device)


ACCELERATORS = {
    "cpu": Accelerator("cpu", "gloo", lambda: True, lambda: 1),
    "cuda": Accelerator("cuda", "nccl", torch.cuda.is_available, torch.cuda.device_count),
    "mps": Accelerator("mps", "", torch.backends.mps.is_available, lambda: 1),
}


def resolve_accelerator(name: str) -> Accelerator:
    """The accelerator called `name`; "auto" takes the fastest that this machine has, "gpu" the GPU it has."""
    if name in ("auto", "gpu"):
        for candidate in ("cuda", "mps"):
            if ACCELERATORS[candidate].available():
                return ACCELERATORS[candidate]
        if name == "auto":
            return ACCELERATORS["cpu"]
        raise ConfigError("accelerator", name, "torch finds no GPU on this machine", "Use accelerator='cpu'")
    accelerator = ACCELERATORS.get(name)
    if accelerator is None:
        hint = nearest(name, ["auto", "gpu", *ACCELERATORS]).rstrip("?")
        raise ConfigError("accelerator", name, "there is no such accelerator", hint)
    if not accelerator.available():
        reason = f"torch finds no {name} device on this machine"
        raise ConfigError("accelerator", name, reason, "Use accelerator='auto'")
    return accelerator


def parse_devices(devices: Devices, accelerator: Accelerator) -> list[int]:
    """Indices of the devices asked for, one per process on this machine.

    Args:
        devices: A number, "auto", -1 (all), a list of indices, or "0,2".
        accelerator: On the CPU the indices only count processes.
    """
    if devices == "auto" or devices in (-1, "-1"):
        return list(range(accelerator.count()))
    indices = _indices(devices)
    if not indices:
        raise ConfigError("devices", devices, "at least one device is needed", "Use devices=1 or more")
    if len(set(indices)) != len(indices) or min(indices) < 0:
        raise ConfigError("devices", devices, "indices must be distinct and not negative", "Use e.g. [0, 1]")
    if accelerator.name != "cpu" and max(indices) >= accelerator.count():
        reason = f"this machine has {accelerator.count()} {accelerator.name} device(s)"
        raise ConfigError("devices", devices, reason, "Ask for fewer, or use devices='auto'")
    return indices


def _indices(devices: Devices) -> list[int]:
    if isinstance(devices, bool):
        raise ConfigError("devices", devices, "a number or a list is needed", "Use devices=1")
    if isinstance(devices, int):
        return list(range(devices))
    if isinstance(devices, str):
        try:
            numbers = [int(part) for part in devices.split(",") if part.strip()]
        except ValueError:
            reason = "it is neither a number nor a list of indices"
            raise ConfigError("devices", devices, reason, "Use e.g. 2, '0,1' or 'auto'") from None
        return numbers if "," in devices else list(range(numbers[0] if numbers else 0))
    return list(devices)
