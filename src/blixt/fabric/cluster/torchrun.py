"""The environment variables of torchrun, which `fabric.launch` and blixt's cloud set as well."""

import os

from blixt.fabric.cluster.base import CHOSEN_VARIABLE, ClusterEnvironment, World, number
from blixt.fabric.errors import ConfigError

_NEEDED = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


class TorchrunEnvironment(ClusterEnvironment):
    """torchrun, its elastic agent, or anybody else who sets RANK, WORLD_SIZE, MASTER_ADDR and so on.

    Raises:
        ConfigError: When WORLD_SIZE promises others and a variable is missing or impossible.
    """

    name = "torchrun"

    def __init__(self) -> None:
        missing = [name for name in _NEEDED if name not in os.environ]
        if missing and number("WORLD_SIZE", 1) > 1:
            reason = f"the environment says so but lacks {', '.join(missing)}"
            fix = "Start with torchrun, or unset it"
            raise ConfigError("WORLD_SIZE", os.environ["WORLD_SIZE"], reason, fix)
        size, rank = self.world_size(), self.global_rank()
        if not 0 <= rank < size:
            reason = f"ranks go from 0 to {size - 1}, because WORLD_SIZE={size}"
            raise ConfigError("RANK", rank, reason, "Correct the environment of this process")

    @property
    def creates_processes_externally(self) -> bool:
        """Always."""
        return True

    @property
    def main_address(self) -> str:
        """MASTER_ADDR."""
        return os.environ.get("MASTER_ADDR") or "127.0.0.1"

    @property
    def main_port(self) -> int:
        """MASTER_PORT."""
        return number("MASTER_PORT", 29500)

    @property
    def restart_count(self) -> int:
        """How often the agent has started the processes again."""
        return number("TORCHELASTIC_RESTART_COUNT", 0)

    @staticmethod
    def detect() -> bool:
        """Whether torchrun's run id is there, or WORLD_SIZE promises more than this process."""
        return "TORCHELASTIC_RUN_ID" in os.environ or number("WORLD_SIZE", 1) > 1

    def world_size(self) -> int:
        """WORLD_SIZE."""
        return number("WORLD_SIZE", 1)

    def global_rank(self) -> int:
        """RANK."""
        return number("RANK", 0)

    def local_rank(self) -> int:
        """LOCAL_RANK."""
        return number("LOCAL_RANK", 0)

    def node_rank(self) -> int:
        """GROUP_RANK, else NODE_RANK, else what the sizes tell."""
        known = number("GROUP_RANK", number("NODE_RANK", -1))
        return known if known >= 0 else self.global_rank() // self.local_world_size()

    def local_world_size(self) -> int:
        """LOCAL_WORLD_SIZE, else all processes."""
        return number("LOCAL_WORLD_SIZE", self.world_size())

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """`devices` times `num_nodes` must be what was started."""
        size = self.world_size()
        if num_devices * num_nodes != size:
            reason = f"times num_nodes={num_nodes} it is not the {size} process(es) that torchrun started"
            raise ConfigError("devices", num_devices, reason, "Make the two equal, or use devices='auto'")

    def world(self, num_devices: int = 1, num_nodes: int = 1) -> World:
        """The place that the variables describe."""
        return World(
            rank=self.global_rank(),
            local_rank=self.local_rank(),
            world_size=self.world_size(),
            local_world_size=self.local_world_size(),
            node_rank=self.node_rank(),
            started_by="the environment (torchrun's variables)",
        )

    def publish(self, world: World) -> None:
        """Nothing is missing, apart from who was chosen."""
        os.environ.setdefault(CHOSEN_VARIABLE, self.name)


class BlixtEnvironment(TorchrunEnvironment):
    """A Job of blixt's cloud: its agents set torchrun's variables on every machine, and BLIXT_JOB."""

    name = "blixt"

    @staticmethod
    def detect() -> bool:
        """Whether this is a process of a Job on several devices or machines."""
        return "BLIXT_JOB" in os.environ and number("WORLD_SIZE", 1) > 1

    @property
    def restart_count(self) -> int:
        """How often the Job was started again."""
        return max(0, number("BLIXT_ATTEMPT", 1) - 1)
