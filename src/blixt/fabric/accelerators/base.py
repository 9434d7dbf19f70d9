"""What Fabric has to know of a family of devices."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from blixt.fabric.errors import ConfigError, WrongTypeError

Devices = int | str | Sequence[int]
"""How many devices ("2", 2, "auto", -1 for all), or which ("0,2", [0, 2])."""


class Accelerator(ABC):
    """One family of devices. A plug-in derives from it and registers itself in `ACCELERATORS`.

    Attributes:
        name: The value of `Fabric(accelerator=...)`.
        backend: The process-group backend that serves it; "" when its devices cannot train together.
        device_type: The type of its torch devices, which also is their name in torch.
    """

    name: str
    backend: str = ""
    device_type: str = ""

    @abstractmethod
    def is_available(self) -> bool:
        """Whether this machine has such a device and torch can use it."""

    @abstractmethod
    def auto_device_count(self) -> int:
        """How many devices `devices="auto"` means."""

    def parse_devices(self, devices: Devices) -> list[int]:
        """Indices of the devices asked for, one a process of this machine.

        Raises:
            ConfigError: When the request makes no sense, or asks for devices that are not there.
        """
        if is_all(devices):
            return list(range(self.auto_device_count()))
        indices = device_indices(devices)
        count = self.auto_device_count()
        if max(indices) >= count:
            reason = f"this machine has {count} {self.name} device(s)"
            raise ConfigError("devices", devices, reason, "Ask for fewer, or use devices='auto'")
        return indices

    def get_parallel_devices(self, devices: list[int]) -> list[torch.device]:
        """The torch devices with these indices."""
        return [self.device(index) for index in devices]

    def device(self, index: int) -> torch.device:
        """The torch device with this index."""
        return torch.device(self.device_type or self.name, index)

    def setup_device(self, device: torch.device) -> None:  # noqa: B027 - nothing to do is a fine default
        """Make `device` the current one of this process."""

    def teardown(self) -> None:  # noqa: B027
        """Give back what the devices cached."""

    def get_device_stats(self, device: torch.device) -> dict[str, Any]:
        """Numbers on the state of `device`, such as memory in bytes or load in percent."""
        return {}


def is_all(devices: Devices) -> bool:
    """Whether `devices` asks for whatever there is."""
    return isinstance(devices, (int, str)) and devices in ("auto", -1, "-1")


def device_indices(devices: Devices) -> list[int]:
    """The indices that `devices` stands for: distinct, not negative, at least one."""
    indices = _indices(devices)
    if not indices:
        raise ConfigError("devices", devices, "at least one device is needed", "Use devices=1 or more")
    if len(set(indices)) != len(indices) or min(indices) < 0:
        raise ConfigError("devices", devices, "indices must be distinct and not negative", "Use e.g. [0, 1]")
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
    if not isinstance(devices, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] - users are not checked
        raise WrongTypeError("devices", devices, "it is no number of devices", "Use e.g. 2, [0, 1] or 'auto'")
    numbers = list(devices)
    if any(type(number) is not int for number in numbers):
        raise ConfigError("devices", devices, "an index is a whole number", "Use e.g. [0, 1]")
    return numbers
