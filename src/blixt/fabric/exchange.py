"""The verbs of Fabric between processes."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import Any, TypeVar, cast

from torch.distributed import ProcessGroup
from torch.distributed.distributed_c10d import Store

from blixt.fabric import collectives
from blixt.fabric.collectives import ReduceOp
from blixt.fabric.errors import LaunchError
from blixt.fabric.place import Place

T = TypeVar("T")
_PATIENCE = timedelta(days=7)
_turns = count(1)  # of the process, because several Fabrics meet at one store


class Exchange(Place):
    """Collectives over nested data, and turns."""

    _channel: Store | None = None

    def all_reduce(self, data: T, reduce_op: ReduceOp = "mean", group: ProcessGroup | None = None) -> T:
        """Tensors and numbers in `data`, reduced over the processes; `data` stays as it is.

        Args:
            data: Tensors and numbers, however nested. Numbers come back as tensors.
            reduce_op: "mean", "sum", "min", "max", "product".
            group: Only these processes; by default all.
        """
        self._connect()
        return collectives.all_reduce(data, reduce_op, self._device, group)

    def reduce(self, data: T, reduce_op: ReduceOp = "mean") -> T:
        """The same as `all_reduce`."""
        return self.all_reduce(data, reduce_op)

    def all_gather(self, data: T, group: ProcessGroup | None = None, sync_grads: bool = False) -> T:
        """Tensors and numbers in `data`, stacked over the processes in a new first dimension.

        Args:
            data: Tensors and numbers, however nested; shapes must be equal on all processes.
            group: Only these processes; by default all.
            sync_grads: Let gradients flow back to the processes that the tensors came from.
        """
        self._connect()
        return collectives.all_gather(data, self._device, group, sync_grads=sync_grads)

    def gather(self, data: T) -> T:
        """The same as `all_gather`."""
        return self.all_gather(data)

    def broadcast(self, item: T, src: int = 0) -> T:
        """The picklable object that process `src` holds."""
        self._connect()
        return collectives.broadcast(item, src)

    def barrier(self, name: str | None = None) -> None:
        """Wait until every process is here; `name` is for whoever reads the program."""
        self._connect()
        collectives.barrier(self._device)

    @contextmanager
    def rank_zero_first(self, local: bool = False) -> Generator[None]:
        """Rank 0 (of each machine, if `local`) runs the body before the others do: downloads, caches.

        The others wait as long as it takes, beyond the timeout of collectives.

        Raises:
            LaunchError: On the others, when the body failed on the first.
        """
        self._connect()
        channel = self._waiting_room()
        if channel is None:
            yield
            return
        machine = f"{self.node_rank}/" if local else ""
        key = f"blixt-first/{machine}{next(_turns)}"
        if (self.local_rank if local else self.global_rank) != 0:
            cast("Any", channel).wait([key], _PATIENCE)
            if channel.get(key) != b"done":
                raise LaunchError("Rank 0 failed inside of rank_zero_first; its own message says why.")
            yield
            return
        outcome = "failed"
        try:
            yield
            outcome = "done"
        finally:
            channel.set(key, outcome)

    def print(self, *args: Any, **kwargs: Any) -> None:
        """`print` on rank 0."""
        if self.is_global_zero:
            print(*args, **kwargs)

    def _waiting_room(self) -> Store | None:
        if self._channel is None and self.world_size > 1:
            self._channel = self._strategy.side_channel()
        return self._channel
