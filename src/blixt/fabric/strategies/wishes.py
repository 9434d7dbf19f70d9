"""What a strategy object may say about the place it works in, beside what it shares."""

from dataclasses import dataclass
from typing import Any

import torch

from blixt.fabric.accelerators import Accelerator
from blixt.fabric.cluster import ClusterEnvironment
from blixt.fabric.errors import ConfigError


@dataclass(frozen=True)
class Wishes:
    """Stands in for arguments of a Fabric that were left at "auto".

    Attributes:
        accelerator: The family of devices; None follows from the devices, if there are any.
        devices: One a process of this machine; without any the argument `devices` decides.
        environment: Who started the processes; None finds out.
    """

    accelerator: Accelerator | None = None
    devices: tuple[torch.device, ...] = ()
    environment: ClusterEnvironment | None = None

    def accelerator_for(self, given: str | Accelerator) -> str | Accelerator:
        """The accelerator, of which `given` says the same or nothing.

        Raises:
            ConfigError: When the two contradict each other.
        """
        own: str | Accelerator | None = self.accelerator
        if own is None and self.devices:
            own = self.devices[0].type
        if own is None:
            return given
        name = own if isinstance(own, str) else own.name
        said = given if isinstance(given, str) else given.name
        if said not in ("auto", name, "gpu" if name in ("cuda", "mps") else name):
            reason = f"the strategy object brings {name!r}"
            raise ConfigError("accelerator", said, reason, "Say it in one place")
        return own

    def devices_for(self, given: Any) -> Any:
        """`given`, or what the strategy's devices are in its place: a number on the CPU, else indices."""
        if not self.devices:
            return given
        if self.devices[0].type == "cpu":
            return len(self.devices)
        return [device.index or 0 for device in self.devices]
