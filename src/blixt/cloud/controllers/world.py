"""What every controller works with, and the steps they share."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from blixt.cloud.agent import RemoteError
from blixt.cloud.api import Cloud
from blixt.cloud.controllers import environment
from blixt.cloud.controllers.allocations import Allocation, Allocations
from blixt.cloud.controllers.queue import Lease, WorkQueue
from blixt.cloud.controllers.volumes import Volumes
from blixt.cloud.engines import Engine
from blixt.cloud.gateway import Stats
from blixt.cloud.hub import AgentGone, Hub, LogStore
from blixt.cloud.objects import Object

FINALIZER = "runtime"
CONNECT_TIMEOUT_S = 60.0
GONE_CHECK_S = 1.0
UNREACHABLE_S = 600.0
DRAIN_TIMEOUT_S = 60.0
STOP_GRACE_S = 10.0
CALL_TIMEOUT_S = 30.0
LOOK_AGAIN_S = 5.0

log = logging.getLogger("blixt.controllers")


@dataclass(frozen=True)
class World:
    """The parts a controller acts through."""

    cloud: Cloud
    engine: Engine
    hub: Hub
    logs: LogStore
    allocations: Allocations
    volumes: Volumes
    queue: WorkQueue
    url: Callable[[], str]
    usage: Callable[[], Mapping[str, Stats]]
    clock: Callable[[], float] = time.time


class Controller(Protocol):
    """Moves the objects of one kind towards what was asked."""

    async def reconcile(self, obj: Object, lease: Lease) -> float | None:
        """Do the next thing; return in how many seconds to look again, None for "when woken"."""
        ...


async def set_status(world: World, lease: Lease, obj: Object, **changes: Any) -> Object:
    """Write a status, if the lease still holds."""

    def write() -> Object:
        with world.cloud.db.write() as s:
            world.queue.check(lease, s)
            return world.cloud.store.update_status(obj.uid, changes, session=s)

    return await asyncio.to_thread(write)


async def ensure_finalizer(world: World, lease: Lease, obj: Object) -> Object:
    """Keep the object after its deletion until everything of it is gone."""
    if FINALIZER in obj.finalizers or obj.deleting:
        return obj

    def write() -> Object:
        with world.cloud.db.write() as s:
            world.queue.check(lease, s)
            return world.cloud.store.add_finalizer(obj.uid, FINALIZER, session=s)

    return await asyncio.to_thread(write)


async def let_go(world: World, lease: Lease, obj: Object) -> None:
    """The object's last step: nothing of it runs, its folders go, then it vanishes."""

    def remove() -> None:
        world.volumes.remove(obj)
        world.logs.remove(obj.uid)
        world.allocations.forget(obj.uid)
        with world.cloud.db.write() as s:
            world.queue.check(lease, s)
            world.cloud.store.remove_finalizer(obj.uid, FINALIZER, session=s)

    await asyncio.to_thread(remove)


async def why_lost(world: World, allocation: Allocation) -> str | None:
    """Say why an allocation no longer works; None while it does, or while there is still hope.

    A disconnected agent alone is no loss: the engine decides, and only a very long silence overrules it.
    """
    gone_s = world.hub.gone_for_s(allocation.id)
    if gone_s == 0.0:
        return None
    machine = await asyncio.to_thread(world.engine.find, allocation.id)
    if machine is None:
        return "the engine no longer knows the machine"
    if not machine.alive:
        return f"the machine ended unexpectedly{_quoted(machine.reason)}"
    if world.hub.connection(allocation.id) is None and gone_s > UNREACHABLE_S:
        return f"the machine did not answer for {UNREACHABLE_S:.0f} s"
    waited = world.clock() - (allocation.live_at or allocation.created_at)
    never_seen = allocation.token_id is None and gone_s > CONNECT_TIMEOUT_S
    if never_seen and waited > CONNECT_TIMEOUT_S:
        return f"its agent did not connect within {CONNECT_TIMEOUT_S:.0f} s{_quoted(machine.reason)}"
    return None


async def configure(world: World, allocation: Allocation, obj: Object) -> None:
    """Give a connected agent its environment and a fresh token, once.

    Raises:
        AgentGone: It went away meanwhile; nothing must be started without its environment.
    """
    connection = world.hub.connection(allocation.id)
    if connection is None:
        raise AgentGone(f"the agent of {allocation.id} is not connected")
    if connection.configured:
        return

    def prepare() -> dict[str, str]:
        secrets = world.allocations.secrets(obj)
        token = world.allocations.issue_token(allocation, obj.owner)
        machine = world.cloud.money.machines()[allocation.machine]
        return environment.common(obj, url=world.url(), token=token, machine=machine, secrets=secrets)

    env = await asyncio.to_thread(prepare)
    await world.hub.call(allocation.id, "configure", CALL_TIMEOUT_S, env=env)


async def end(world: World, allocation: Allocation, reason: str, *, grace_s: float = 0.0) -> None:
    """Stop what runs in an allocation, wait for the last of its log, and release it."""
    connection = world.hub.connection(allocation.id)
    if connection is not None:
        try:
            if grace_s > 0 and connection.processes:
                await world.hub.call(allocation.id, "stop", grace_s + CALL_TIMEOUT_S, grace_s=grace_s)
            await drained(world, allocation)
        except (AgentGone, RemoteError) as error:
            log.info("%s is released without a farewell: %s", allocation.id, error)
    await asyncio.to_thread(world.allocations.end, allocation, reason)
    world.hub.forget(allocation.id)


def exits(world: World, allocation: Allocation) -> dict[str, int | None] | None:
    """The exit code of each main process, None for those that run; None when the agent is away."""
    connection = world.hub.connection(allocation.id)
    if connection is None:
        return None
    return {id: found["exit"] for id, found in connection.processes.items()}


def describe_exit(code: int) -> str:
    """An exit code for people.

    >>> describe_exit(137)
    'was killed (signal 9)'
    """
    return f"was killed (signal {code - 128})" if code > 128 else f"exited with code {code}"


async def drained(world: World, allocation: Allocation) -> None:
    """Wait until every finished process's log is here, to the last byte.

    An agent that lost its connection meanwhile is given time to dial again, while its machine is alive.
    """
    deadline = time.monotonic() + DRAIN_TIMEOUT_S
    with world.logs.follow(allocation.uid) as grew:
        while (left := deadline - time.monotonic()) > 0:
            grew.clear()
            if await _nothing_to_come(world, allocation):
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, GONE_CHECK_S)):
                    await grew.wait()


async def _nothing_to_come(world: World, allocation: Allocation) -> bool:
    connection = world.hub.connection(allocation.id)
    if connection is None:
        machine = await asyncio.to_thread(world.engine.find, allocation.id)
        return machine is None or not machine.alive
    return all(
        found["exit"] is None or world.hub.log_complete(allocation.attached, id, found["log_bytes"])
        for id, found in connection.processes.items()
    )


def _quoted(words: str) -> str:
    return f": {words}" if words else ""
