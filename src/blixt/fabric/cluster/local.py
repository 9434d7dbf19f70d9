"""No cluster: this machine, or several that the user starts by hand."""

import os

from blixt.fabric.cluster.base import ClusterEnvironment, World, free_port, number
from blixt.fabric.errors import ConfigError


class LocalEnvironment(ClusterEnvironment):
    """The processes of this machine are made by `launch`, one a device.

    With several machines the script is started once on each, with MASTER_ADDR, MASTER_PORT and NODE_RANK
    set and `num_nodes=` given. A process that finds LOCAL_RANK believes that somebody else made them all.
    """

    name = "this machine"

    def __init__(self) -> None:
        self._world_size = number("WORLD_SIZE", 1)
        self._rank: int | None = None
        self._port = 0

    @property
    def creates_processes_externally(self) -> bool:
        """Whether LOCAL_RANK is set."""
        return "LOCAL_RANK" in os.environ

    @property
    def main_address(self) -> str:
        """MASTER_ADDR, else this machine."""
        return os.environ.get("MASTER_ADDR") or "127.0.0.1"

    @property
    def main_port(self) -> int:
        """MASTER_PORT, else a free one."""
        if not self._port:
            self._port = number("MASTER_PORT", 0) or free_port()
        return self._port

    @staticmethod
    def detect() -> bool:
        """Always: there is at least this machine."""
        return True

    def world_size(self) -> int:
        """What was set, else WORLD_SIZE, else 1."""
        return self._world_size

    def set_world_size(self, size: int) -> None:
        """Take it over."""
        self._world_size = size

    def global_rank(self) -> int:
        """What was set, else RANK, else the local rank."""
        return self._rank if self._rank is not None else number("RANK", self.local_rank())

    def set_global_rank(self, rank: int) -> None:
        """Take it over."""
        self._rank = rank

    def local_rank(self) -> int:
        """LOCAL_RANK, else 0."""
        return number("LOCAL_RANK", 0)

    def node_rank(self) -> int:
        """NODE_RANK, else GROUP_RANK, else 0."""
        return number("NODE_RANK", number("GROUP_RANK", 0))

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Several machines need an address that all of them know."""
        if num_nodes > 1:
            for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK"):
                if name == "NODE_RANK" and "GROUP_RANK" in os.environ:
                    continue
                if name not in os.environ:
                    reason = f"machines started by hand need {name} in the environment"
                    fix = f"Set {name}, or start with torchrun, srun or a blixt Job"
                    raise ConfigError("num_nodes", num_nodes, reason, fix)
            if not 0 <= self.node_rank() < num_nodes:
                reason = f"machines count from 0 to {num_nodes - 1}, because num_nodes={num_nodes}"
                raise ConfigError("NODE_RANK", self.node_rank(), reason, "Correct the environment")

    def teardown(self) -> None:
        """Forget WORLD_SIZE, so that the next launch counts anew."""
        os.environ.pop("WORLD_SIZE", None)

    def world(self, num_devices: int = 1, num_nodes: int = 1) -> World | None:
        """None, unless LOCAL_RANK says that somebody made the processes."""
        if not self.creates_processes_externally:
            return None
        node, local = self.node_rank(), self.local_rank()
        size = number("WORLD_SIZE", num_devices * num_nodes)
        rank = self._rank if self._rank is not None else number("RANK", node * num_devices + local)
        self.set_world_size(size)
        self.set_global_rank(rank)
        return World(rank, local, size, min(num_devices, size), node, started_by="LOCAL_RANK")
