"""What a Fabric is made of, and what people may ask it about devices and processes."""

from typing import Any

import torch

from blixt.fabric.accelerators import Accelerator
from blixt.fabric.cluster import ClusterEnvironment, World
from blixt.fabric.errors import ConfigError
from blixt.fabric.loggers.base import Logger
from blixt.fabric.plan import Plan
from blixt.fabric.precision import Precision
from blixt.fabric.rank_zero import rank_zero_only
from blixt.fabric.strategies import Strategy


class Place:
    """Devices, processes, strategy and precision of one process.

    Args:
        plan: What was decided from the arguments.
        callbacks: What `call` calls.
        loggers: Where `log` sends numbers.

    Attributes:
        callbacks: See above; more may be added.
        loggers: See above.
    """

    def __init__(self, plan: Plan, callbacks: list[Any], loggers: list[Logger]) -> None:
        self._plan = plan
        self.callbacks = callbacks
        self.loggers = loggers
        self._strategy = plan.strategy
        self._world = plan.world or World(world_size=plan.world_size)
        self._device = plan.strategy.process_device = plan.device_of(self._world)
        scales_itself = plan.strategy.scales_loss
        self._scaler = None if scales_itself else plan.precision.make_scaler(self._device)
        plan.strategy.cluster_environment = plan.environment
        self._launched = False
        if plan.world is not None:
            rank_zero_only.rank = self._world.rank

    def _connect(self) -> None:
        """Join the other processes, if that has not been done; every verb that needs them calls it."""

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return self._device

    @property
    def global_rank(self) -> int:
        """The index of this process among all."""
        return self._world.rank

    @property
    def local_rank(self) -> int:
        """The index of this process on its machine."""
        return self._world.local_rank

    @property
    def node_rank(self) -> int:
        """The index of this machine."""
        return self._world.node_rank

    @property
    def world_size(self) -> int:
        """How many processes train together."""
        return self._world.world_size

    @property
    def num_devices(self) -> int:
        """How many processes train together on this machine, each on its device."""
        if self._plan.world is None:
            return len(self._plan.device_indices)
        return self._world.local_world_size

    @property
    def num_nodes(self) -> int:
        """How many machines."""
        return self.world_size // self.num_devices

    @property
    def device_ids(self) -> list[int]:
        """The indices of this machine's devices, one a process."""
        return self._plan.device_indices[: self.num_devices]

    @property
    def is_global_zero(self) -> bool:
        """Whether this process is the one that writes files and talks to people."""
        return self._world.rank == 0

    @property
    def strategy(self) -> Strategy:
        """How parameters and gradients are shared."""
        return self._strategy

    @property
    def accelerator(self) -> Accelerator:
        """The family of devices."""
        return self._plan.accelerator

    @property
    def precision(self) -> Precision:
        """Number formats."""
        return self._plan.precision

    @property
    def environment(self) -> ClusterEnvironment:
        """Who started the processes, or will."""
        return self._plan.environment

    @property
    def scaler(self) -> torch.amp.GradScaler | None:
        """The gradient scaler, when the precision needs one."""
        return self._scaler

    @property
    def logger(self) -> Logger:
        """The first logger."""
        if not self.loggers:
            raise ConfigError("Fabric(loggers)", None, "there is no logger", "Give one")
        return self.loggers[0]
