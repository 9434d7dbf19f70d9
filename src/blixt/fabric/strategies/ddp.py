"""Every process holds the whole model; gradients are averaged while backward runs."""

import atexit
from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, ClassVar, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import (
    rendezvous,  # pyright: ignore[reportUnknownVariableType] - torch leaves its options untyped
)
from torch.nn.parallel import DistributedDataParallel

from blixt.fabric.cluster import World
from blixt.fabric.errors import LaunchError
from blixt.fabric.strategies.base import Strategy

_LEAVE_S = 3.0


class DDPStrategy(Strategy):
    """torch's DistributedDataParallel.

    Args:
        find_unused_parameters: Allow a forward pass to leave parameters out, at some cost per step.
        timeout_s: How long a collective waits for the other processes before it fails.
    """

    name = "ddp"
    store: ClassVar[Store | None] = None
    """Where the processes met; one a process, because there is one default group a process."""

    def __init__(self, find_unused_parameters: bool = False, timeout_s: float = 1800) -> None:
        self.find_unused_parameters = find_unused_parameters
        self.timeout_s = timeout_s

    def connect(self, world: World, backend: str) -> None:
        """Meet the others at MASTER_ADDR:MASTER_PORT."""
        if dist.is_initialized():
            return
        timeout = timedelta(seconds=self.timeout_s)
        try:
            store, rank, world_size = next(rendezvous("env://", timeout=timeout))
            group_store = PrefixStore("blixt-group", store)
            dist.init_process_group(
                backend, store=group_store, rank=rank, world_size=world_size, timeout=timeout
            )
            DDPStrategy.store = store
        except (dist.DistError, RuntimeError, ValueError) as error:
            raise LaunchError(
                f"Rank {world.rank} could not join the other {world.world_size - 1} process(es): {error}. "
                "Check that all of them started and that MASTER_ADDR and MASTER_PORT are reachable."
            ) from error
        atexit.register(self.disconnect)

    def disconnect(self) -> None:
        """Free the group's sockets and threads, once all processes are done with them."""
        if dist.is_initialized():
            self._leave_together()
            dist.destroy_process_group()
            DDPStrategy.store = None

    def _leave_together(self) -> None:
        """Wait a moment for the others before anything is torn down.

        A process that leaves early breaks the connections of one that is still in a collective. And gloo's
        threads may hold the last collective's tensors a little longer than its caller; letting go of them
        while Python shuts down ends the process with SIGABRT (pytorch/pytorch pull request 179291).
        """
        store = DDPStrategy.store
        if store is None:
            return
        names = [f"blixt-left/{rank}" for rank in range(dist.get_world_size())]
        try:
            store.set(names[dist.get_rank()], "")
            cast("Any", store).wait(names, timedelta(seconds=_LEAVE_S))
        except (dist.DistError, RuntimeError):
            return  # the others failed, or are gone already

    def wrap(self, module: nn.Module, device: torch.device) -> nn.Module:
        """The module inside DistributedDataParallel; itself when nothing in it is trained."""
        if not any(parameter.requires_grad for parameter in module.parameters()):
            return module
        device_ids = [device] if device.type == "cuda" else None
        return DistributedDataParallel(
            module, device_ids=device_ids, find_unused_parameters=self.find_unused_parameters
        )

    def no_sync(self, module: nn.Module) -> AbstractContextManager[Any]:
        """Backward inside leaves gradients as they are on this process."""
        if isinstance(module, DistributedDataParallel):
            return module.no_sync()
        return super().no_sync(module)

    def side_channel(self) -> Store | None:
        """A connection of its own to the store where the processes met."""
        return cast("Any", DDPStrategy.store).clone() if DDPStrategy.store is not None else None

    def sync_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average gradients one by one: for the rare window that ends where nobody could foresee it."""
        for parameter in parameters:
            if parameter.grad is not None:
                cast("Any", dist).all_reduce(parameter.grad)
                parameter.grad /= dist.get_world_size()
