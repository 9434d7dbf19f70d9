"""Deployments beyond the generic routes: start, stop, logs."""

import asyncio
from collections.abc import Callable

from fastapi import APIRouter, Depends
from starlette.responses import StreamingResponse

from blixt.cloud.api.access import allow
from blixt.cloud.api.jobs import log_response
from blixt.cloud.controllers.runtime import Runtime, runtime_of
from blixt.cloud.errors import NotFound
from blixt.cloud.identity import Principal
from blixt.cloud.objects import Object

router = APIRouter(prefix="/teamspaces/{ts}/deployments", tags=["deployments"])


@router.post("/{name}/stop")
def stop_deployment(
    ts: str,
    name: str,
    caller: Principal = allow("operate", "deployment"),
    runtime: Runtime = Depends(runtime_of),
) -> dict[str, object]:
    """Ask for no replicas at all; requests are refused until it is started again."""
    store = runtime.cloud.store
    with runtime.cloud.db.write() as s:
        found = store.get("deployment", ts, name, session=s)
        return store.patch_spec(found.uid, {"desired": "stopped"}, actor=caller.actor, session=s).to_json()


@router.post("/{name}/start")
def start_deployment(
    ts: str,
    name: str,
    caller: Principal = allow("operate", "deployment"),
    runtime: Runtime = Depends(runtime_of),
) -> dict[str, object]:
    """Let it serve again, also after it failed; replicas start when they are needed."""
    store = runtime.cloud.store
    with runtime.cloud.db.write() as s:
        found = store.get("deployment", ts, name, session=s)
        found = store.patch_spec(found.uid, {"desired": "running"}, actor=caller.actor, session=s)
        runtime.cloud.money.check_start(found, session=s)
        fresh = {"state": "sleeping", "reason": "", "failures": 0, "failed_revision": None, "retry_at": None}
        changes = fresh if found.status["state"] in ("failed", "stopped") else {}
        return store.update_status(found.uid, changes, session=s).to_json()


@router.get("/{name}/logs")
async def deployment_logs(
    ts: str,
    name: str,
    follow: bool = False,
    since: str = "0",
    replica: str | None = None,
    caller: Principal = allow("read", "deployment"),
    runtime: Runtime = Depends(runtime_of),
) -> StreamingResponse:
    """Stream a replica's log; without `replica` the newest one's that wrote anything."""
    found = await asyncio.to_thread(runtime.cloud.store.get, "deployment", ts, name)
    parts = await asyncio.to_thread(runtime.logs.parts, found.uid)
    part = _replica(found, parts, replica)
    final = _has_ended(part)
    return log_response(runtime, found, [part], since, follow=follow, label="replica", final=final)


def _replica(found: Object, parts: list[str], wanted: str | None) -> str:
    """The replica that was named, else the newest."""
    known = sorted(
        {*parts, *(entry["id"] for entry in found.status["replicas"])},
        key=lambda id: int(id.lstrip("r") or 0),
    )
    if wanted is None:
        return known[-1] if known else "r1"
    if wanted not in known:
        raise NotFound(f"There is no replica {wanted[:40]!r}.", f"Known are: {', '.join(known) or 'none'}.")
    return wanted


def _has_ended(replica: str) -> Callable[[Object], bool]:
    def ended(found: Object) -> bool:
        return replica not in {entry["id"] for entry in found.status["replicas"]}

    return ended
