"""The one life cycle of the process group, for every strategy that has more than one process."""

import atexit
from datetime import timedelta
from typing import Any, ClassVar, cast

import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import (
    rendezvous,  # pyright: ignore[reportUnknownVariableType] - torch leaves its options untyped
)

from blixt.fabric.cluster import World
from blixt.fabric.errors import ConfigError, LaunchError
from blixt.fabric.meeting import own_part
from blixt.fabric.strategies.base import Launcher, Strategy

_LEAVE_S = 3.0
_LAUNCHERS = (None, "script", "spawn", "fork", "forkserver")


class GroupStrategy(Strategy):
    """Base of strategies whose processes meet in torch's default process group.

    Args:
        timeout_s: How long a collective waits for the other processes before it fails; seconds or a
            timedelta.
        process_group_backend: "gloo", "nccl", ...; None takes the one that serves the accelerator.
        launcher: How processes are made when nobody made them yet; None lets the launch decide.
        plugins: `checkpoint_io` and `layer_sync`, see `Strategy.configure`.
    """

    store: ClassVar[Store | None] = None
    """Where the processes met; one a process, because there is one default group a process."""
    meetings: ClassVar[int] = 0
    """How often this process joined a group: each group has its own keys in the store."""
    needs_group: ClassVar[bool] = False
    """Whether a single process wants a group as well, because device meshes stand on one."""

    def __init__(
        self,
        *,
        timeout_s: float | timedelta = 1800.0,
        process_group_backend: str | None = None,
        launcher: Launcher | None = None,
        **plugins: Any,
    ) -> None:
        if launcher not in _LAUNCHERS:
            known = ", ".join(repr(name) for name in _LAUNCHERS[1:])
            raise ConfigError(
                f"{type(self).__name__}(launcher)", launcher, "there is no such launcher", known
            )
        self.timeout_s = timeout_s.total_seconds() if isinstance(timeout_s, timedelta) else float(timeout_s)
        self.process_group_backend = process_group_backend
        self.launcher = launcher
        self.configure(**plugins)

    def connect(self, world: World, backend: str) -> None:
        """Meet the others at MASTER_ADDR:MASTER_PORT; a single process meets only itself, if it must."""
        self.join_group(world, backend)

    def join_group(self, world: World, backend: str) -> None:
        """Join the default process group, unless this process is in one already.

        Raises:
            LaunchError: The others cannot be reached, or the group that is there has another size.
        """
        super().connect(world, backend)
        if dist.is_initialized():
            _check_size(world)
            return
        if world.world_size == 1 and not self.needs_group:
            return
        backend = self.process_group_backend or backend
        timeout = timedelta(seconds=self.timeout_s)
        GroupStrategy.meetings += 1
        try:
            store = _meet(world, timeout)
            dist.init_process_group(
                backend,
                store=PrefixStore(f"blixt-group-{GroupStrategy.meetings}", store),
                rank=world.rank,
                world_size=world.world_size,
                timeout=timeout,
            )
            GroupStrategy.store = store
        except (dist.DistError, RuntimeError, ValueError) as error:
            raise LaunchError(
                f"Rank {world.rank} could not join the other {world.world_size - 1} process(es): {error}. "
                "Check that all of them started and that MASTER_ADDR and MASTER_PORT are reachable."
            ) from error
        atexit.register(self.disconnect)

    def disconnect(self) -> None:
        """Free the group's sockets and threads, once all processes are done with them."""
        super().disconnect()
        if dist.is_initialized():
            _leave_together()
            dist.destroy_process_group()
            GroupStrategy.store = None

    def side_channel(self) -> Store | None:
        """A connection of its own to the store where the processes met; None for a single process."""
        if GroupStrategy.store is None or self.world.world_size == 1:
            return None
        return cast("Any", GroupStrategy.store).clone()


def _check_size(world: World) -> None:
    """Refuse a group of another run, such as one that a forked process inherits: it would train alone."""
    if (size := dist.get_world_size()) != world.world_size:
        raise LaunchError(
            f"Rank {world.rank} of {world.world_size} is in a process group of {size} already. "
            "Call torch.distributed.destroy_process_group() before these processes are launched."
        )


def _meet(world: World, timeout: timedelta) -> Store:
    if world.world_size == 1:
        return dist.HashStore()
    store = next(rendezvous("env://", timeout=timeout))[0]
    return own_part(store, world.rank, world.world_size, timeout.total_seconds())


def _leave_together() -> None:
    """Wait a moment for the others before anything is torn down.

    A process that leaves early breaks the connections of one that is still in a collective. And gloo's
    threads may hold the last collective's tensors a little longer than its caller; letting go of them
    while Python shuts down ends the process with SIGABRT (pytorch/pytorch pull request 179291).
    """
    store = GroupStrategy.store
    if store is None or dist.get_world_size() == 1:
        return
    names = [f"blixt-left-{GroupStrategy.meetings}/{rank}" for rank in range(dist.get_world_size())]
    try:
        store.set(names[dist.get_rank()], "")
        cast("Any", store).wait(names, timedelta(seconds=_LEAVE_S))
    except (dist.DistError, RuntimeError):
        return  # the others failed, or are gone already
