"""Watching objects change, as server-sent events."""

from collections.abc import AsyncIterator, Sequence

from fastapi import APIRouter, Depends, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from blixt.cloud.api.access import allow, principal_of
from blixt.cloud.api.context import Cloud, cloud_of
from blixt.cloud.api.sse import KEEP_ALIVE, KEEP_ALIVE_S, sse_event, sse_response
from blixt.cloud.identity import Principal
from blixt.cloud.kinds import kind_of
from blixt.cloud.objects import Change

router = APIRouter()
_BATCH = 200


@router.get("/watch")
async def watch(
    request: Request,
    teamspace: str | None = None,
    kind: str | None = None,
    since: int | None = Query(default=None, ge=0, le=2**62),
    caller: Principal = allow("read", "change"),
    cloud: Cloud = Depends(cloud_of),
) -> StreamingResponse:
    """Stream changes after `since` (default: from now on), of one kind or teamspace when given."""
    if teamspace is not None:
        cloud.identity.authorize(caller, "read", "teamspace", teamspace)
    if kind is not None:
        kind_of(kind)
    last_id = request.headers.get("last-event-id", "")
    if last_id.isascii() and last_id.isdigit() and len(last_id) < 19:
        since = int(last_id)
    if since is None:
        since = await run_in_threadpool(cloud.store.last_seq)
    else:
        # A position the log no longer has is an error answer, not a broken stream.
        await run_in_threadpool(cloud.store.changes, since, 1)
    return sse_response(_events(request, cloud, teamspace, kind, since))


async def _events(
    request: Request, cloud: Cloud, teamspace: str | None, kind: str | None, since: int
) -> AsyncIterator[str]:
    async with cloud.store.subscribe() as wake:
        yield KEEP_ALIVE
        while not wake.closed:
            # Asked again each time, so that a revoked token or a lost membership ends the stream.
            caller = await principal_of(request)
            if caller is None or (teamspace is not None and teamspace not in caller.roles):
                return
            visible = [teamspace] if teamspace is not None else list(caller.roles)
            # Changes of other teamspaces are read over once, not at every wake-up.
            newest = await run_in_threadpool(cloud.store.last_seq)
            found = await run_in_threadpool(_read, cloud, since, kind, visible)
            for change in found:
                yield sse_event("change", change.to_json(), id=change.seq)
            since = found[-1].seq if found else max(since, newest)
            if len(found) < _BATCH and not await wake.wait(KEEP_ALIVE_S):
                yield KEEP_ALIVE


def _read(cloud: Cloud, since: int, kind: str | None, teamspaces: list[str]) -> Sequence[Change]:
    return cloud.store.changes(since, _BATCH, kind=kind, teamspaces=teamspaces)
