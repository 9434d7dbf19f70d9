"""What people ask a strategy to do between processes; the same as the verbs of `Fabric`."""

from typing import Any, TypeVar

import torch
import torch.distributed as dist

from blixt.fabric import collectives
from blixt.fabric.cluster import World
from blixt.fabric.collectives import ReduceOp

T = TypeVar("T")


class Verbs:
    """Collectives over all processes that have met; of one process, each does what it would alone."""

    world: World
    process_device: torch.device | None = None
    """Set by the Fabric that this strategy works for."""

    @property
    def root_device(self) -> torch.device:
        """The device of this process."""
        if self.process_device is not None:
            return self.process_device
        on_gpu = dist.is_initialized() and "nccl" in str(dist.get_backend())
        return torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")

    @property
    def world_size(self) -> int:
        """How many processes train together."""
        return self.world.world_size

    @property
    def global_rank(self) -> int:
        """The index of this process among all."""
        return self.world.rank

    @property
    def is_global_zero(self) -> bool:
        """Whether this process is the one that writes files and talks to people."""
        return self.world.rank == 0

    def barrier(self, name: str | None = None) -> None:
        """Wait until every process is here; `name` is for people who read the code."""
        collectives.barrier(self.root_device)

    def broadcast(self, obj: T, src: int = 0) -> T:
        """The picklable object that process `src` holds."""
        return collectives.broadcast(obj, src)

    def all_gather(self, data: T) -> T:
        """Every tensor in `data` gets a first dimension of size world_size."""
        return collectives.all_gather(data, self.root_device)

    def all_reduce(self, data: T, reduce_op: ReduceOp = "mean") -> T:
        """Every tensor and number in `data`, reduced over the processes."""
        return collectives.all_reduce(data, reduce_op, self.root_device)

    def reduce(self, tensor: Any, group: Any = None, reduce_op: ReduceOp = "mean") -> Any:
        """The same as `all_reduce`; there are no groups but the one of all processes."""
        return self.all_reduce(tensor, reduce_op)

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:
        """Whether every process decided so, or any if not `all`."""
        votes = self.all_reduce(torch.tensor(int(decision)), "sum")
        return int(votes) == self.world_size if all else bool(int(votes))
