"""Jobs: a gang of machines that run one command to its end, restarted as often as was asked."""

import asyncio
from typing import Any

from blixt.cloud.agent import RemoteError
from blixt.cloud.controllers import environment
from blixt.cloud.controllers.allocations import Allocation
from blixt.cloud.controllers.queue import Lease
from blixt.cloud.controllers.world import (
    CALL_TIMEOUT_S,
    GONE_CHECK_S,
    LOOK_AGAIN_S,
    STOP_GRACE_S,
    World,
    configure,
    describe_exit,
    end,
    ensure_finalizer,
    exits,
    let_go,
    set_status,
    why_lost,
)
from blixt.cloud.engines import EngineError
from blixt.cloud.errors import CloudError
from blixt.cloud.hub import AgentGone
from blixt.cloud.objects import Object

FINAL = ("succeeded", "failed", "stopped")
TRANSFER_TIMEOUT_S = 3600.0


class JobController:
    """Reconciles Jobs."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def reconcile(self, obj: Object, lease: Lease) -> float | None:
        """Do the job's next step."""
        world = self._world
        if obj.deleting:
            await self._end_all(obj, "deleted", grace_s=STOP_GRACE_S)
            await let_go(world, lease, obj)
            return None
        if obj.status["state"] in FINAL:
            return await self._end_all(obj, obj.status["state"])
        obj = await ensure_finalizer(world, lease, obj)
        if obj.spec["desired"] == "stopped":
            return await self._stop(obj, lease)
        gang = await asyncio.to_thread(world.allocations.of, obj.uid)
        evicted = next((allocation.reason for allocation in gang if allocation.reason), None)
        if evicted is not None:
            return await self._finish(obj, lease, "failed", evicted)
        if obj.status["state"] == "pending" or len(gang) < obj.spec["machines"]:
            return await self._gather(obj, lease, gang)
        return await self._advance(obj, lease, gang)

    async def _gather(self, obj: Object, lease: Lease, gang: list[Allocation]) -> float | None:
        """Ask for every machine of the gang; all or none."""
        world = self._world
        if obj.status["state"] == "running":
            return await self._attempt_failed(obj, lease, "A machine of the job is gone.")
        attempt = obj.status["attempt"] or 1
        try:
            wanted = [
                await asyncio.to_thread(
                    world.allocations.request, obj, lease, part=str(node), attempt=attempt
                )
                for node in range(obj.spec["machines"])
            ]
            obj = await set_status(
                world,
                lease,
                obj,
                state="starting",
                attempt=attempt,
                allocations=[allocation.id for allocation in wanted],
                reason=obj.status["reason"] or "Starting the machines.",
            )
            if obj.spec["studio"]:
                source = await asyncio.to_thread(
                    world.cloud.store.get, "studio", obj.teamspace, obj.spec["studio"]
                )
                await asyncio.to_thread(world.volumes.copy, source, obj)
            for allocation in wanted:
                if allocation.state == "requested":
                    await asyncio.to_thread(world.allocations.start, allocation, obj)
        except (CloudError, EngineError) as error:
            return await self._finish(obj, lease, "failed", str(error))
        return GONE_CHECK_S

    async def _advance(self, obj: Object, lease: Lease, gang: list[Allocation]) -> float | None:
        world = self._world
        for allocation in gang:
            if allocation.state == "requested":
                return await self._gather(obj, lease, gang)
            lost = await why_lost(world, allocation)
            if lost is not None:
                return await self._attempt_failed(obj, lease, f"Machine {allocation.part}: {lost}.")
        found = [exits(world, allocation) for allocation in gang]
        if any(codes is None for codes in found):
            return GONE_CHECK_S  # an agent is on its way; its arrival wakes us
        if not all(found):
            return await self._launch(obj, lease, gang)
        if obj.status["state"] != "running":
            started = obj.status["started_at"] or world.clock()
            obj = await set_status(world, lease, obj, state="running", started_at=started, reason="")
        return await self._judge(
            obj, lease, gang, {id: code for codes in found if codes for id, code in codes.items()}
        )

    async def _launch(self, obj: Object, lease: Lease, gang: list[Allocation]) -> float | None:
        """Start the ranks of each machine that has not started them; starting twice does nothing."""
        spec, attempt = obj.spec, obj.status["attempt"]
        try:
            for allocation in gang:
                await configure(self._world, allocation, obj)
            if spec["source"]:
                await self._call(gang[0], "fetch_source", TRANSFER_TIMEOUT_S, blob=spec["source"])
            port = await self._call(gang[0], "free_port", CALL_TIMEOUT_S)
            for allocation, members in zip(
                gang, environment.ranks(spec["machines"], spec["processes"]), strict=True
            ):
                if exits(self._world, allocation):
                    continue
                folders = {"BLIXT_MODEL_OUT": environment.model_out(attempt)} if spec["model"] else {}
                processes = [
                    {
                        "id": str(rank.rank),
                        "env": environment.gang(
                            rank,
                            machines=spec["machines"],
                            processes=spec["processes"],
                            master_port=port,
                            attempt=attempt,
                        ),
                    }
                    for rank in members
                ]
                await self._call(
                    allocation,
                    "start",
                    CALL_TIMEOUT_S,
                    command=spec["command"],
                    processes=processes,
                    folders=folders,
                )
        except AgentGone:
            return GONE_CHECK_S
        except (CloudError, RemoteError) as error:
            return await self._finish(obj, lease, "failed", str(error))
        return GONE_CHECK_S

    async def _judge(
        self, obj: Object, lease: Lease, gang: list[Allocation], codes: dict[str, int | None]
    ) -> float | None:
        """Decide from the ranks' exits: go on, succeed, fail."""
        failed = {rank: code for rank, code in codes.items() if code}
        if failed:
            rank, code = min(failed.items(), key=lambda item: int(item[0]))
            who = "The command" if len(codes) == 1 else f"Rank {rank}"
            return await self._attempt_failed(obj, lease, f"{who} {describe_exit(code)}.", code)
        if all(code == 0 for code in codes.values()):
            return await self._succeed(obj, lease, gang)
        timeout_s = obj.spec["timeout_s"]
        if timeout_s is None:
            return LOOK_AGAIN_S
        left_s = obj.status["started_at"] + timeout_s - self._world.clock()
        if left_s > 0:
            return min(left_s, LOOK_AGAIN_S)
        return await self._finish(
            obj, lease, "failed", f"It ran longer than its timeout of {timeout_s} s.", grace_s=STOP_GRACE_S
        )

    async def _succeed(self, obj: Object, lease: Lease, gang: list[Allocation]) -> float | None:
        version: int | None = None
        if obj.spec["model"]:
            attempt = obj.status["attempt"]
            try:
                answer = await self._call(
                    gang[0],
                    "upload_model",
                    TRANSFER_TIMEOUT_S,
                    path=environment.model_out(attempt),
                    name=obj.spec["model"],
                    id=f"{obj.uid}-{attempt}",
                    job=obj.name,
                )
                version = int(answer["version"])
            except AgentGone:
                return GONE_CHECK_S
            except RemoteError as error:
                if error.code in ("unreachable", "http_502", "http_503"):
                    return GONE_CHECK_S
                return await self._finish(
                    obj, lease, "failed", f"Its model could not be kept: {error}", exit_code=0
                )
        return await self._finish(obj, lease, "succeeded", "", exit_code=0, model_version=version)

    async def _attempt_failed(
        self, obj: Object, lease: Lease, reason: str, code: int | None = None
    ) -> float | None:
        """Start the next attempt on fresh machines with the same home, or give up."""
        attempt, most = obj.status["attempt"], obj.spec["max_restarts"]
        if attempt > most:
            return await self._finish(obj, lease, "failed", reason, exit_code=code, grace_s=STOP_GRACE_S)
        await self._end_all(obj, reason, grace_s=STOP_GRACE_S)
        await set_status(
            self._world,
            lease,
            obj,
            state="pending",
            attempt=attempt + 1,
            allocations=[],
            exit_code=code,
            reason=f"Restart {attempt} of {most}: {reason}",
        )
        return 0.0

    async def _stop(self, obj: Object, lease: Lease) -> float | None:
        gang = await asyncio.to_thread(self._world.allocations.of, obj.uid)
        if gang:
            obj = await set_status(
                self._world, lease, obj, state="stopping", reason="Stopping, as was asked."
            )
        reason = obj.status.get("stop_reason") or "It was stopped."
        return await self._finish(obj, lease, "stopped", reason, grace_s=STOP_GRACE_S)

    async def _finish(
        self,
        obj: Object,
        lease: Lease,
        state: str,
        reason: str,
        *,
        exit_code: int | None = None,
        model_version: int | None = None,
        grace_s: float = 0.0,
    ) -> None:
        await self._end_all(obj, reason or state, grace_s=grace_s)
        await set_status(
            self._world,
            lease,
            obj,
            state=state,
            reason=reason,
            exit_code=exit_code,
            model_version=model_version,
            finished_at=self._world.clock(),
        )

    async def _end_all(self, obj: Object, reason: str, *, grace_s: float = 0.0) -> None:
        gang = await asyncio.to_thread(self._world.allocations.of, obj.uid)
        await asyncio.gather(*(end(self._world, allocation, reason, grace_s=grace_s) for allocation in gang))

    async def _call(self, allocation: Allocation, op: str, timeout_s: float, **params: Any) -> Any:
        return await self._world.hub.call(allocation.id, op, timeout_s, **params)
