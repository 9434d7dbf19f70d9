"""A process's place among the processes that train together."""

from dataclasses import dataclass


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
