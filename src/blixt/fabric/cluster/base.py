"""A process's place among the processes that train together, and who gave it that place."""

import os
import signal
import socket
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from blixt.fabric.errors import ConfigError, MissingVariableError

CHOSEN_VARIABLE = "BLIXT_CLUSTER"
"""Names the environment that a process settled on, so that what `publish` adds does not change its mind."""


@dataclass(frozen=True)
class World:
    """Ranks and sizes, in the words of torchrun.

    Attributes:
        rank: Of this process among all, 0 <= rank < world_size.
        local_rank: Of this process on its machine.
        world_size: Number of processes.
        local_world_size: Number of processes on this machine.
        node_rank: Of this machine among the machines.
        started_by: Who made the processes, for error messages.
    """

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    local_world_size: int = 1
    node_rank: int = 0
    started_by: str = "this process"


class ClusterEnvironment(ABC):
    """Answers who this process is and where the processes meet.

    A cluster of your own needs the abstract members only; pass an instance as `plugins=` of Fabric or
    Trainer. Whoever starts the processes is the same for all ranks, so answers come from the environment.
    """

    name: ClassVar[str] = "cluster"
    requeue_signal: signal.Signals | None = None
    """A signal that means "save, ask to be started again, leave"; None where the cluster knows no such."""

    @property
    @abstractmethod
    def creates_processes_externally(self) -> bool:
        """Whether all processes are there already; else `launch` makes this machine's."""

    @property
    @abstractmethod
    def main_address(self) -> str:
        """Address of the machine with rank 0."""

    @property
    @abstractmethod
    def main_port(self) -> int:
        """The port there at which the processes meet."""

    @staticmethod
    @abstractmethod
    def detect() -> bool:
        """Whether this process was started in such an environment."""

    @abstractmethod
    def world_size(self) -> int:
        """Number of processes."""

    @abstractmethod
    def global_rank(self) -> int:
        """Index of this process among all."""

    @abstractmethod
    def local_rank(self) -> int:
        """Index of this process on its machine."""

    @abstractmethod
    def node_rank(self) -> int:
        """Index of this machine."""

    def set_world_size(self, size: int) -> None:  # noqa: B027 - most clusters decide it themselves
        """Take over a number of processes that the cluster does not know."""

    def set_global_rank(self, rank: int) -> None:  # noqa: B027
        """Take over a rank that the cluster does not know."""

    def local_world_size(self) -> int | None:
        """Number of processes on this machine; None when only the argument `devices` tells."""
        return None

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:  # noqa: B027
        """Raise `ConfigError` when `devices` and `num_nodes` do not fit what the cluster started."""

    def requeue(self) -> str | None:
        """Ask the cluster to start this job again; returns what was asked for, or None if it cannot be."""
        return None

    def teardown(self) -> None:  # noqa: B027
        """Take back what was put into the process's environment."""

    def world(self, num_devices: int = 1, num_nodes: int = 1) -> World | None:
        """This process's place; None while the processes still have to be made.

        Args:
            num_devices: Processes a machine, used where the cluster does not say.
            num_nodes: Machines, likewise.
        """
        if not self.creates_processes_externally:
            return None
        size, rank = self.world_size(), self.global_rank()
        if not 0 <= rank < size:
            reason = f"ranks go from 0 to {size - 1}, because there are {size} processes"
            raise ConfigError(f"{type(self).__name__}(rank)", rank, reason, "Correct the environment")
        local = self.local_world_size() or min(num_devices, size)
        return World(rank, self.local_rank(), size, local, self.node_rank(), started_by=self.name)

    def publish(self, world: World) -> None:
        """Tell torch, and libraries that read torchrun's variables, what this environment knows."""
        if world.world_size <= 1:
            return
        os.environ.update(rank_variables(world))
        os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = self.main_address, str(self.main_port)
        os.environ[CHOSEN_VARIABLE] = self.name


def rank_variables(world: World) -> dict[str, str]:
    """The ranks and sizes as torchrun's variables."""
    return {
        "RANK": str(world.rank),
        "LOCAL_RANK": str(world.local_rank),
        "WORLD_SIZE": str(world.world_size),
        "LOCAL_WORLD_SIZE": str(world.local_world_size),
        "NODE_RANK": str(world.node_rank),
        "GROUP_RANK": str(world.node_rank),
    }


def number(name: str, default: int | None = None) -> int:
    """The environment variable `name` as a number.

    Raises:
        ConfigError: When it is no number.
        MissingVariableError: When it is absent, and there is no default.
    """
    text = os.environ.get(name, "")
    if not text and default is not None:
        return default
    try:
        return int(text)
    except ValueError:
        reason = (
            "this environment variable must be a number" if text else "this environment variable is missing"
        )
        fix = "Correct it" if text else "Set it, or start the processes another way"
        kind = ConfigError if text else MissingVariableError
        raise kind(name, text or None, reason, fix) from None


def free_port() -> int:
    """A TCP port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def job_port(key: int) -> int:
    """A port that every process of a job derives from the job's number, between 15000 and 24999."""
    return 15000 + key % 10000
