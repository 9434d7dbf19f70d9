"""Deployments: as many healthy replicas as the traffic needs, none when nobody asks."""

import asyncio
import time
from dataclasses import replace
from typing import Any

from blixt.cloud.controllers.allocations import Allocation
from blixt.cloud.controllers.autoscale import Bounds, Demand, backoff_s, enough, wanted
from blixt.cloud.controllers.health import is_healthy
from blixt.cloud.controllers.queue import Lease
from blixt.cloud.controllers.replica import Failed, Replica, advance, remove, shape
from blixt.cloud.controllers.world import World, ensure_finalizer, let_go, set_status
from blixt.cloud.errors import CloudError
from blixt.cloud.objects import Object

STARTING_LOOK_S = 0.2
BUSY_LOOK_S = 0.5
QUIET_LOOK_S = 2.0
HEALTH_EVERY_S = 10.0
MOST_FAILURES = 5
STABLE_S = 20.0
NOTE_EVERY_S = 1.0


class DeploymentController:
    """Reconciles Deployments."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._totals: dict[str, int] = {}
        self._began_at = world.clock()
        self._noted: dict[str, float] = {}
        self._checked: dict[str, float] = {}

    async def reconcile(self, obj: Object, lease: Lease) -> float | None:
        """Move the replicas one step and the number of them towards the demand."""
        world = self._world
        obj = await ensure_finalizer(world, lease, obj)
        allocations = {found.id: found for found in await asyncio.to_thread(world.allocations.of, obj.uid)}
        replicas = [Replica.from_json(value) for value in obj.status["replicas"]]
        known = {replica.allocation for replica in replicas}
        for id, allocation in allocations.items():
            if id not in known:
                await remove(world, allocation, "no replica of the deployment uses it")
        if obj.deleting or obj.spec["desired"] == "stopped":
            return await self._stop(obj, lease, replicas, allocations)
        if obj.status["state"] == "failed" and obj.status.get("failed_revision") == obj.revision:
            return None  # until somebody changes it or starts it again
        changes: dict[str, Any] = {}
        replicas = await self._advance_all(obj, lease, replicas, allocations, changes)
        if changes.get("state") == "failed":
            await set_status(world, lease, obj, **changes)
            return None
        replicas, again_s = await self._scale(obj, lease, replicas, allocations, changes)
        await self._write(obj, lease, replicas, changes)
        return again_s

    async def _advance_all(
        self,
        obj: Object,
        lease: Lease,
        replicas: list[Replica],
        allocations: dict[str, Allocation],
        changes: dict[str, Any],
    ) -> list[Replica]:
        """Each replica's next step; the failed ones go, and count."""
        kept: list[Replica] = []
        for replica in replicas:
            allocation = allocations.get(replica.allocation)
            if replica.state == "stopping":
                if allocation is not None:
                    await remove(self._world, allocation, "not needed any more")
                continue
            try:
                if allocation is None:
                    raise Failed("its machine has ended")
                replica = await advance(self._world, obj, replica, allocation)
                await self._check_health(obj, replica)
                kept.append(replica)
            except Failed as error:
                if allocation is not None:
                    # Out of the routes first, then ended.
                    others = [other for other in replicas if other.id != replica.id]
                    await self._write(obj, lease, others, {})
                    await remove(self._world, allocation, str(error))
                self._count_failure(obj, replica, str(error), changes)
        ready_for = [self._world.clock() - r.started_at for r in kept if r.state == "ready"]
        if obj.status["failures"] and not changes and ready_for and max(ready_for) > STABLE_S:
            changes["failures"] = 0
        return kept

    def _count_failure(self, obj: Object, replica: Replica, reason: str, changes: dict[str, Any]) -> None:
        # A replica that served and died begins the count anew: "in a row" means that none ever got well.
        before = 0 if replica.state == "ready" else changes.get("failures", obj.status["failures"])
        failures = before + 1
        changes |= {
            "failures": failures,
            "retry_at": self._world.clock() + backoff_s(failures),
            "reason": f"Replica {replica.id} failed: {reason}",
        }
        if failures >= MOST_FAILURES:
            changes |= {
                "state": "failed",
                "replicas": [],
                "failed_revision": obj.revision,
                "reason": f"{failures} replicas failed in a row, the last one: {reason}",
            }

    async def _check_health(self, obj: Object, replica: Replica) -> None:
        """Ask a ready replica now and then; twice no answer replaces it."""
        now = self._world.clock()
        if replica.state != "ready" or now - self._checked.get(replica.id, 0.0) < HEALTH_EVERY_S:
            return
        self._checked[replica.id] = now
        for _ in range(2):
            if self._world.hub.connection(replica.allocation) is None:
                return  # the agent is on its way back; whether the machine is lost is decided elsewhere
            if replica.port and await is_healthy(
                self._world.hub, replica.allocation, replica.port, obj.spec["health_path"]
            ):
                return
        raise Failed(f"{obj.spec['health_path']} no longer answers")

    async def _scale(
        self,
        obj: Object,
        lease: Lease,
        replicas: list[Replica],
        allocations: dict[str, Allocation],
        changes: dict[str, Any],
    ) -> tuple[list[Replica], float | None]:
        """Start or stop replicas; returns those left and when to look again."""
        current = [replica for replica in replicas if replica.shape == shape(obj.spec)]
        load, count = self._demand(obj, len(current), changes)
        retry_in_s = (changes.get("retry_at") or obj.status.get("retry_at") or 0.0) - self._world.clock()
        if count > len(current) and retry_in_s > 0:
            return replicas, retry_in_s
        try:
            for _ in range(count - len(current)):
                replica = await self._add(obj, lease)
                current.append(replica)
                replicas = [*replicas, replica]
        except CloudError as error:
            changes |= {"state": "failed", "reason": str(error), "failed_revision": obj.revision}
            return replicas, None
        surplus = self._surplus(current, replicas, count)
        replicas = [replica for replica in replicas if replica not in surplus]
        if surplus:
            leaving = [replace(replica, state="stopping") for replica in surplus]
            await self._write(obj, lease, [*replicas, *leaving], {})  # out of the routes before they stop
        for replica in surplus:
            if (allocation := allocations.get(replica.allocation)) is not None:
                await remove(self._world, allocation, "not needed any more")
        if any(replica.state != "ready" for replica in replicas):
            return replicas, STARTING_LOOK_S
        if load or self._is_behind(obj, load, changes):
            return replicas, BUSY_LOOK_S
        return replicas, QUIET_LOOK_S if replicas else None

    def _demand(self, obj: Object, replicas: int, changes: dict[str, Any]) -> tuple[int, int]:
        """The load now and how many replicas to have; notes both in the status.

        The gateway counts from zero after a restart; the status goes on from what it had.
        """
        now, spec = self._world.clock(), obj.spec
        usage = self._world.usage().get(obj.uid)
        load = usage.in_flight + usage.waiting if usage else 0
        total = usage.total if usage else 0
        active_at = max(obj.status["active_at"] or 0.0, usage.last_request_at if usage else 0.0)
        active_at = now if load else active_at
        bounds = Bounds(
            spec["min_replicas"], spec["max_replicas"], spec["concurrency"], spec["idle_timeout_s"]
        )
        below_since = obj.status.get("below_since")
        below_since = (below_since or now) if enough(load, bounds) < replicas else None
        changes["below_since"] = below_since
        base = self._totals.setdefault(obj.uid, obj.status["requests_total"])
        counters = {"requests_total": base + total, "in_flight": load, "active_at": active_at or None}
        self._note(obj, counters, changes)
        below_s = now - below_since if below_since else 0.0
        # While the server was away nobody could ask: idleness counts from its start at the earliest.
        idle_s = now - max(active_at, self._began_at)
        return load, wanted(Demand(load, replicas, idle_s, below_s), bounds)

    def _note(self, obj: Object, counters: dict[str, Any], changes: dict[str, Any]) -> None:
        """Put the counters in the status, but not more often than people look: each write wakes everybody."""
        now = time.monotonic()
        if now - self._noted.get(obj.uid, -NOTE_EVERY_S) >= NOTE_EVERY_S:
            self._noted[obj.uid] = now
            changes |= counters

    def _is_behind(self, obj: Object, load: int, changes: dict[str, Any]) -> bool:
        """Whether the counters in the status are not the last ones."""
        usage = self._world.usage().get(obj.uid)
        total = self._totals.get(obj.uid, 0) + (usage.total if usage else 0)
        shown = {**obj.status, **changes}
        return (shown["requests_total"], shown["in_flight"]) != (total, load)

    def _surplus(self, current: list[Replica], replicas: list[Replica], count: int) -> list[Replica]:
        """Replicas of an old shape once a new one serves, and the youngest above the number wanted."""
        outdated = [replica for replica in replicas if replica not in current]
        if outdated and count > 0 and not any(replica.state == "ready" for replica in current):
            outdated = []
        by_age = sorted(current, key=lambda replica: (replica.state != "ready", replica.started_at))
        return [*outdated, *by_age[count:]]

    async def _add(self, obj: Object, lease: Lease) -> Replica:
        """A new replica: its money is set aside and its allocation written down; starting comes next."""
        id = f"r{await asyncio.to_thread(self._world.allocations.next_serial, obj.uid)}"
        allocation = await asyncio.to_thread(self._world.allocations.request, obj, lease, part=id, attempt=1)
        return Replica(
            id=id,
            state="starting",
            allocation=allocation.id,
            port=None,
            started_at=self._world.clock(),
            restarts=obj.status["failures"],
            shape=shape(obj.spec),
        )

    async def _stop(
        self, obj: Object, lease: Lease, replicas: list[Replica], allocations: dict[str, Allocation]
    ) -> float | None:
        world = self._world
        if replicas:
            stopping = [replace(replica, state="stopping").to_json() for replica in replicas]
            obj = await set_status(world, lease, obj, replicas=stopping, reason="Stopping.")
            for replica in replicas:
                if replica.allocation in allocations:
                    await remove(world, allocations[replica.allocation], "stopped")
        if obj.deleting:
            self._totals.pop(obj.uid, None)
            await let_go(world, lease, obj)
        else:
            await set_status(
                world,
                lease,
                obj,
                state="stopped",
                reason="",
                replicas=[],
                in_flight=0,
                failures=0,
                retry_at=None,
            )
        return None

    async def _write(
        self, obj: Object, lease: Lease, replicas: list[Replica], changes: dict[str, Any]
    ) -> Object:
        """The status that follows from the replicas."""
        ready = sum(replica.state == "ready" for replica in replicas)
        if replicas and all(replica.state == "stopping" for replica in replicas):
            state = obj.status["state"]
        elif not replicas:
            state = "sleeping" if obj.spec["min_replicas"] == 0 else "starting"
        elif ready == len(replicas):
            state = "ready"
        else:
            state = "degraded" if ready else "starting"
        reason = changes.get("reason", "" if state in ("ready", "sleeping") else obj.status["reason"])
        fields = {
            "state": state,
            "reason": reason,
            "replicas": [replica.to_json() for replica in replicas],
            "url": f"{self._world.url()}/d/{obj.teamspace}/{obj.name}",
        }
        return await set_status(self._world, lease, obj, **{**fields, **changes})
