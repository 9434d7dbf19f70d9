"""Jobs beyond the generic routes: stop, and the logs that every kind of workload has."""

import asyncio
from collections.abc import AsyncIterator, Callable

from fastapi import APIRouter, Depends, Query
from starlette.responses import StreamingResponse

from blixt.cloud.api.access import allow
from blixt.cloud.api.sse import KEEP_ALIVE, KEEP_ALIVE_S, sse_event, sse_response
from blixt.cloud.controllers.job import FINAL
from blixt.cloud.controllers.runtime import Runtime, find_object, runtime_of
from blixt.cloud.errors import Invalid
from blixt.cloud.hub import Tail
from blixt.cloud.identity import Principal
from blixt.cloud.objects import Object

router = APIRouter(prefix="/teamspaces/{ts}/jobs", tags=["jobs"])


@router.post("/{name}/stop")
def stop_job(
    ts: str,
    name: str,
    caller: Principal = allow("operate", "job"),
    runtime: Runtime = Depends(runtime_of),
) -> dict[str, object]:
    """Ask a job to stop; one that has ended stays as it is."""
    store = runtime.cloud.store
    with runtime.cloud.db.write() as s:
        job = store.get("job", ts, name, session=s)
        if job.status["state"] not in FINAL:
            store.update_status(job.uid, {"stop_reason": f"It was stopped by {caller.user}."}, session=s)
            job = store.patch_spec(job.uid, {"desired": "stopped"}, actor=caller.actor, session=s)
        return job.to_json()


@router.get("/{name}/logs")
async def job_logs(
    ts: str,
    name: str,
    follow: bool = False,
    since: str = "0",
    rank: str = Query(default="0", pattern=r"^([0-9]{1,5}|all)$"),
    caller: Principal = allow("read", "job"),
    runtime: Runtime = Depends(runtime_of),
) -> StreamingResponse:
    """Stream a rank's log, or with `rank=all` every rank's; an event's id is the offset to go on from."""
    job = await asyncio.to_thread(runtime.cloud.store.get, "job", ts, name)
    total = job.spec["machines"] * job.spec["processes"]
    parts = [str(number) for number in range(total)] if rank == "all" else [rank]
    return log_response(runtime, job, parts, since, follow=follow, label="rank", final=_is_final)


def log_response(
    runtime: Runtime,
    obj: Object,
    parts: list[str],
    since: str,
    *,
    follow: bool,
    label: str,
    final: Callable[[Object], bool],
) -> StreamingResponse:
    """The logs of an object's parts as server-sent events.

    Raises:
        Invalid: `since` is not an offset this route gave.
    """
    tail = Tail(runtime.logs, obj.uid, _offsets(parts, since))
    return sse_response(_events(runtime, obj, tail, follow=follow, label=label, final=final))


async def _events(
    runtime: Runtime, obj: Object, tail: Tail, *, follow: bool, label: str, final: Callable[[Object], bool]
) -> AsyncIterator[str]:
    async def ended() -> bool:
        current = await asyncio.to_thread(find_object, runtime, obj.uid)
        return not follow or current is None or final(current)

    async for pieces in tail.follow(ended, KEEP_ALIVE_S):
        for piece in pieces:
            value = int(piece.part) if label == "rank" else piece.part
            data = {label: value, "text": piece.text, "offset": piece.offset}
            yield sse_event("log", data, id=_id(piece.offsets))
        if not pieces:
            yield KEEP_ALIVE
    last = await asyncio.to_thread(find_object, runtime, obj.uid)
    yield sse_event("end", {"state": last.status["state"] if last is not None else "deleted"})


def _is_final(job: Object) -> bool:
    return job.status["state"] in FINAL


def _id(offsets: dict[str, int]) -> str:
    if len(offsets) == 1:
        return str(next(iter(offsets.values())))
    return ",".join(f"{part}:{offset}" for part, offset in offsets.items())


def _offsets(parts: list[str], since: str) -> dict[str, int]:
    """The offset to begin at, of each part, from what an event's id said."""
    try:
        if ":" in since:
            given = dict(entry.split(":", 1) for entry in since.split(","))
            return {part: max(0, int(given.get(part, "0"))) for part in parts}
        return dict.fromkeys(parts, max(0, int(since or 0)))
    except ValueError as error:
        raise Invalid(
            f"query: since: {since[:80]!r} is not an offset.", "Send the last event's id."
        ) from error
