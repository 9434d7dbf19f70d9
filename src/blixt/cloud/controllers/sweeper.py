"""Finds what nobody explains: machines without an allocation, allocations without an object, unpaid time."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from blixt.cloud.controllers.world import World
from blixt.cloud.errors import NotFound

SWEEP_EVERY_S = 30.0
HOLDS_EVERY_S = 5.0
WAITING_EVERY_S = 1.0
YOUNG_S = 60.0
UNPAID = "The budget is used up."

log = logging.getLogger("blixt.sweeper")


class Sweeper:
    """Runs beside the controllers."""

    def __init__(self, world: World, wake: Callable[[str], None]) -> None:
        self._world = world
        self._wake = wake

    async def run(self) -> None:
        """Sweep and enforce holds until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._every(SWEEP_EVERY_S, self.sweep))
            group.create_task(self._every(HOLDS_EVERY_S, self.enforce_holds))
            group.create_task(self._every(WAITING_EVERY_S, self.wake_waiting))

    async def sweep(self) -> None:
        """Release machines that no allocation explains, and end allocations whose object is gone."""
        unexplained = await asyncio.to_thread(_unexplained, self._world)
        for token in unexplained:
            log.warning("releasing %s, which nothing explains", token)
            await asyncio.to_thread(self._world.engine.release, token)
        for allocation in await asyncio.to_thread(self._world.allocations.unended):
            if await asyncio.to_thread(_orphaned, self._world, allocation.uid):
                await asyncio.to_thread(self._world.allocations.end, allocation, "its object is gone")
            elif time.time() - allocation.created_at > YOUNG_S:
                self._wake(allocation.uid)

    async def enforce_holds(self) -> None:
        """Set the next minute's money aside for what runs; what cannot be paid is stopped."""
        money = self._world.cloud.money
        for id in await asyncio.to_thread(money.extend_holds, self._world.clock()):
            uid = await asyncio.to_thread(self._world.allocations.evict, id, UNPAID)
            if uid is not None:
                self._wake(uid)

    async def wake_waiting(self) -> None:
        """Look at deployments that hold requests: a wake-up may be lost, a request that waits is not."""
        for uid, usage in self._world.usage().items():
            if usage.waiting:
                self._wake(uid)

    async def _every(self, seconds: float, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except Exception as error:  # the next round tries again; the sweeper itself must live
                log.error("sweeping failed: %r", error)
            await asyncio.sleep(seconds)


def _unexplained(world: World) -> list[str]:
    """The engine's machines that no open allocation row names.

    Rows are read after the machines: a machine is only ever made after its row.
    """
    machines = [machine.token for machine in world.engine.list()]
    known = {allocation.id for allocation in world.allocations.unended()}
    return [token for token in machines if token not in known]


def _orphaned(world: World, uid: str) -> bool:
    try:
        world.cloud.store.get_uid(uid)
    except NotFound:
        return True
    return False
