"""What users may ask a trainer about devices and processes: its Fabric's answers."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch

from blixt.fabric import Fabric
from blixt.fabric.accelerators import Accelerator
from blixt.fabric.precision import Precision
from blixt.fabric.strategies import Strategy


class DeviceViews:
    """Where a trainer runs.

    Attributes:
        fabric: Devices and processes.
    """

    fabric: Fabric

    def print(self, *args: Any, **kwargs: Any) -> None:
        """`print` on rank 0."""
        self.fabric.print(*args, **kwargs)

    @contextmanager
    def init_module(self, empty_init: bool | None = None) -> Generator[None]:
        """Around the making of a module: tensors appear on the device and in the precision of this trainer.

        Args:
            empty_init: Leave weights uninitialised, because a checkpoint will fill them.
        """
        fabric = self.fabric
        with fabric.strategy.init_context(fabric.device, empty_init), fabric.precision.init_context():
            yield

    @property
    def accelerator(self) -> Accelerator:
        """The family of devices."""
        return self.fabric.accelerator

    @property
    def strategy(self) -> Strategy:
        """How parameters and gradients are shared."""
        return self.fabric.strategy

    @property
    def precision(self) -> str:
        """The name of the number format, such as "bf16-mixed"."""
        return self.fabric.precision.name

    @property
    def precision_plugin(self) -> Precision:
        """The number formats themselves."""
        return self.fabric.precision

    @property
    def scaler(self) -> torch.amp.GradScaler | None:
        """The gradient scaler, when the precision needs one."""
        return self.fabric.scaler

    @property
    def device_ids(self) -> list[int]:
        """The indices of this machine's devices, one a process."""
        return self.fabric.device_ids

    @property
    def num_devices(self) -> int:
        """How many processes train together on this machine, each on its device."""
        return self.fabric.num_devices

    @property
    def num_nodes(self) -> int:
        """How many machines."""
        return self.fabric.num_nodes

    @property
    def global_rank(self) -> int:
        """The index of this process among all."""
        return self.fabric.global_rank

    @property
    def local_rank(self) -> int:
        """The index of this process on its machine."""
        return self.fabric.local_rank

    @property
    def node_rank(self) -> int:
        """The index of this machine."""
        return self.fabric.node_rank

    @property
    def world_size(self) -> int:
        """How many processes train together."""
        return self.fabric.world_size

    @property
    def distributed_sampler_kwargs(self) -> dict[str, int] | None:
        """For a sampler of your own that divides the data; None where one process has all of it."""
        strategy = self.fabric.strategy
        if strategy.name == "single_device":
            return None
        return {"num_replicas": strategy.data_parallel_size, "rank": strategy.data_parallel_rank}

    @property
    def is_global_zero(self) -> bool:
        """Whether this process writes files and talks to people."""
        return self.fabric.is_global_zero
