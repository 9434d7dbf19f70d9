"""Studios: one allocation while it should run, a home folder that stays."""

import asyncio

from blixt.cloud.controllers.allocations import Allocation
from blixt.cloud.controllers.queue import Lease
from blixt.cloud.controllers.world import (
    GONE_CHECK_S,
    LOOK_AGAIN_S,
    World,
    configure,
    end,
    ensure_finalizer,
    let_go,
    set_status,
    why_lost,
)
from blixt.cloud.engines import EngineError
from blixt.cloud.errors import CloudError
from blixt.cloud.hub import AgentGone
from blixt.cloud.objects import Object

STOPPED = {"allocation": None, "started_at": None, "agent_connected": False}


class StudioController:
    """Reconciles Studios."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def reconcile(self, obj: Object, lease: Lease) -> float | None:
        """Start, keep or stop the Studio's machine."""
        obj = await ensure_finalizer(self._world, lease, obj)
        current = await asyncio.to_thread(self._world.allocations.of, obj.uid)
        if obj.deleting or obj.spec["desired"] == "stopped":
            return await self._stop(obj, lease, current)
        if not current:
            return await self._start(obj, lease)
        return await self._keep(obj, lease, current[0])

    async def _start(self, obj: Object, lease: Lease) -> float | None:
        world = self._world
        if obj.status["state"] == "failed" and obj.status.get("failed_revision") == obj.revision:
            return None  # until somebody asks again
        attempt = obj.status["attempt"] + 1
        try:
            allocation = await asyncio.to_thread(
                world.allocations.request, obj, lease, part="0", attempt=attempt
            )
            obj = await set_status(
                world,
                lease,
                obj,
                state="starting",
                reason="Starting the machine.",
                allocation=allocation.id,
                attempt=attempt,
            )
            await asyncio.to_thread(world.allocations.start, allocation, obj)
        except (CloudError, EngineError) as error:
            return await self._fail(obj, lease, str(error))
        return GONE_CHECK_S

    async def _keep(self, obj: Object, lease: Lease, allocation: Allocation) -> float | None:
        world = self._world
        if allocation.reason:
            await end(world, allocation, allocation.reason)
            return await self._fail(obj, lease, allocation.reason)
        if allocation.state == "requested":
            try:
                allocation = await asyncio.to_thread(world.allocations.start, allocation, obj)
            except EngineError as error:
                return await self._fail(obj, lease, str(error))
        lost = await why_lost(world, allocation)
        if lost is not None:
            await end(world, allocation, lost)
            return await self._fail(obj, lease, f"The Studio stopped: {lost}.")
        if world.hub.connection(allocation.id) is None:
            await set_status(world, lease, obj, agent_connected=False)
            return GONE_CHECK_S
        try:
            await configure(world, allocation, obj)
        except (CloudError, AgentGone) as error:
            await end(world, allocation, str(error))
            return await self._fail(obj, lease, str(error))
        await set_status(
            world,
            lease,
            obj,
            state="running",
            reason="",
            allocation=allocation.id,
            agent_connected=True,
            attempt=allocation.attempt,
            started_at=obj.status["started_at"] or world.clock(),
        )
        return await self._idle(obj, allocation)

    async def _idle(self, obj: Object, allocation: Allocation) -> float:
        """Put a Studio that nobody uses to sleep; otherwise say when it might be time."""
        timeout_s = obj.spec["idle_timeout_s"]
        if timeout_s == 0:
            return LOOK_AGAIN_S
        idle_s = self._world.hub.idle_for_s(allocation.id)
        if idle_s >= timeout_s and obj.status["state"] == "running":
            await asyncio.to_thread(
                self._world.cloud.store.patch_spec, obj.uid, {"desired": "stopped"}, actor="idle timeout"
            )
        return min(LOOK_AGAIN_S, max(0.2, timeout_s - idle_s))

    async def _stop(self, obj: Object, lease: Lease, current: list[Allocation]) -> float | None:
        world = self._world
        for allocation in current:
            obj = await set_status(world, lease, obj, state="stopping", reason="Stopping the machine.")
            await end(world, allocation, "stopped")
        if obj.deleting:
            await let_go(world, lease, obj)
        elif obj.status["state"] != "stopped":  # the reason of an earlier stop stays
            await set_status(world, lease, obj, state="stopped", reason="", **STOPPED)
        return None

    async def _fail(self, obj: Object, lease: Lease, reason: str) -> None:
        await set_status(
            self._world, lease, obj, state="failed", reason=reason, failed_revision=obj.revision, **STOPPED
        )
