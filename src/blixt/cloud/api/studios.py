"""Studios beyond the generic routes: start, stop, commands, terminals, files, applications."""

import asyncio
from typing import Any

from fastapi import APIRouter, Depends, Query, Request, WebSocket
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import StreamingResponse

from blixt.cloud.agent import Channel, ChannelClosed, RemoteError
from blixt.cloud.api.access import allow, public, refuse_websocket, websocket_principal
from blixt.cloud.api.jobs import log_response
from blixt.cloud.controllers.runtime import Runtime, find_object, runtime_of
from blixt.cloud.errors import CloudError, Conflict, Invalid, NotFound, Unauthenticated, Unavailable
from blixt.cloud.gateway import StudioApp
from blixt.cloud.hub import AgentGone
from blixt.cloud.hub.bridges import exec_lines, file_bytes, join_terminal
from blixt.cloud.identity import Principal
from blixt.cloud.objects import Object

router = APIRouter(prefix="/teamspaces/{ts}/studios", tags=["studios"])

READY_WAIT_S = 30.0
APP_TIMEOUT_S = 90.0


class ExecBody(BaseModel):
    """A command to run in a Studio."""

    model_config = ConfigDict(extra="forbid")

    command: list[str] | str = Field(min_length=1)
    cwd: str = ""
    env: dict[str, str] = Field(default_factory=dict)
    timeout_s: float | None = Field(default=None, gt=0)


class OpenBody(BaseModel):
    """What to open: an application by its name, or a port."""

    model_config = ConfigDict(extra="forbid")

    app: str | int = "jupyter"


@router.post("/{name}/start")
def start_studio(
    ts: str,
    name: str,
    caller: Principal = allow("operate", "studio"),
    runtime: Runtime = Depends(runtime_of),
) -> dict[str, object]:
    """Ask for the Studio to run, also after it failed."""
    store = runtime.cloud.store
    with runtime.cloud.db.write() as s:
        found = store.get("studio", ts, name, session=s)
        found = store.patch_spec(found.uid, {"desired": "running"}, actor=caller.actor, session=s)
        if found.status["state"] in ("failed", "stopped"):
            runtime.cloud.money.check_start(found, session=s)
            fresh = {"state": "starting", "reason": "Waiting for a machine.", "failed_revision": None}
            found = store.update_status(found.uid, fresh, session=s)
        return found.to_json()


@router.post("/{name}/stop")
def stop_studio(
    ts: str,
    name: str,
    caller: Principal = allow("operate", "studio"),
    runtime: Runtime = Depends(runtime_of),
) -> dict[str, object]:
    """Ask for the Studio to stop; its files stay."""
    store = runtime.cloud.store
    with runtime.cloud.db.write() as s:
        found = store.get("studio", ts, name, session=s)
        return store.patch_spec(found.uid, {"desired": "stopped"}, actor=caller.actor, session=s).to_json()


@router.post("/{name}/exec")
async def exec_in_studio(
    ts: str,
    name: str,
    body: ExecBody,
    caller: Principal = allow("shell", "studio"),
    runtime: Runtime = Depends(runtime_of),
) -> StreamingResponse:
    """Run a command; its output and exit code come as lines of JSON. Hanging up kills it."""
    studio = await _running(runtime, ts, name)
    await _audit(runtime, caller, "exec", studio, {"command": str(body.command)[:500]})
    channel = await _open(runtime, studio, "exec", **body.model_dump())
    await channel.write_eof()
    return StreamingResponse(exec_lines(channel), media_type="application/x-ndjson")


@router.websocket("/{name}/terminal")
@public  # authenticated and authorised below: a WebSocket's refusal needs its own answer
async def terminal(
    websocket: WebSocket, ts: str, name: str, cols: int = 80, rows: int = 24, session: str = ""
) -> None:
    """A shell on a pty: binary frames are its bytes, text frames are JSON."""
    runtime = runtime_of(websocket)
    try:
        caller = await websocket_principal(websocket)
        if caller is None:
            raise Unauthenticated("You are not signed in.", "Send a bearer token or sign in to the console.")
        runtime.cloud.identity.authorize(caller, "shell", "studio", ts)
        studio = await _running(runtime, ts, name)
        await _audit(runtime, caller, "shell", studio, {"session": session[:64]})
        channel = await _open(runtime, studio, "terminal", session=session[:64], cols=cols, rows=rows)
    except CloudError as error:
        await refuse_websocket(websocket, error)
        return
    await websocket.accept()
    await join_terminal(websocket, channel)


@router.get("/{name}/files/{path:path}")
async def read_file(
    ts: str,
    name: str,
    path: str,
    caller: Principal = allow("shell", "studio"),
    runtime: Runtime = Depends(runtime_of),
) -> StreamingResponse:
    """Stream a file; paths are relative to the Studio's home."""
    studio = await _running(runtime, ts, name)
    channel = await _open(runtime, studio, "read", path=path)
    began = asyncio.Event()
    channel.on_note = lambda _: began.set()
    try:
        await channel.opened(began)
        if not began.is_set():
            raise Conflict(f"{path} is a folder.", "Name a file in it.")
    except RemoteError as error:
        raise _as_cloud_error(error) from error
    except ChannelClosed as error:
        raise Unavailable(f"The Studio's machine went away: {error}", "Try again.") from error
    return StreamingResponse(file_bytes(channel), media_type="application/octet-stream")


@router.put("/{name}/files/{path:path}")
async def write_file(
    ts: str,
    name: str,
    path: str,
    request: Request,
    mode: str | None = Query(default=None, pattern=r"^[0-7]{3,4}$"),
    caller: Principal = allow("shell", "studio"),
    runtime: Runtime = Depends(runtime_of),
) -> dict[str, Any]:
    """Write a file, whole or not at all, making the folders above it."""
    studio = await _running(runtime, ts, name)
    await _audit(runtime, caller, "write", studio, {"path": path[:500]})
    channel = await _open(runtime, studio, "write", path=path, mode=mode)
    try:
        async for piece in request.stream():
            if channel.ended:
                break  # it failed on the other side; `result` says why
            await channel.write(piece)
        await channel.write_eof()
        written: dict[str, Any] = await channel.result()
    except RemoteError as error:
        raise _as_cloud_error(error) from error
    except ChannelClosed as error:
        raise Unavailable(f"The Studio's machine went away: {error}", "Try again.") from error
    finally:
        await channel.cancel()
    return {"path": path, "size_bytes": written["size"]}


@router.post("/{name}/open")
async def open_app(
    ts: str,
    name: str,
    body: OpenBody,
    caller: Principal = allow("shell", "studio"),
    runtime: Runtime = Depends(runtime_of),
) -> dict[str, str]:
    """Open an application, starting it when needed; answers with a one-time link to the Studio's origin."""
    if isinstance(body.app, int) and not 0 < body.app < 65536:
        raise Invalid(f"app: {body.app} is not a port.", "Give 'jupyter' or a port from 1 to 65535.")
    studio = await _running(runtime, ts, name)
    await _audit(runtime, caller, "open", studio, {"app": str(body.app)})
    if isinstance(body.app, str):
        try:
            found = await runtime.hub.call(studio.status["allocation"], "app", APP_TIMEOUT_S, name=body.app)
        except RemoteError as error:
            raise _as_cloud_error(error) from error
        except AgentGone as error:
            raise Unavailable(f"The Studio's machine did not answer: {error}", "Try again.") from error
        headers = {"Authorization": f"token {found['token']}"}
        runtime.routes.set_app(studio, body.app, StudioApp(found["port"], headers))
    assert runtime.gateway is not None
    return {"url": runtime.gateway.issue_ticket(caller, studio.uid, body.app)}


@router.get("/{name}/logs")
async def studio_logs(
    ts: str,
    name: str,
    follow: bool = False,
    since: str = "0",
    caller: Principal = allow("read", "studio"),
    runtime: Runtime = Depends(runtime_of),
) -> StreamingResponse:
    """Stream the log of the Studio's main processes; Studios of today have none, so it is empty."""
    studio = await asyncio.to_thread(runtime.cloud.store.get, "studio", ts, name)
    return log_response(
        runtime, studio, ["0"], since, follow=follow, label="part", final=lambda found: not _may_run(found)
    )


async def _running(runtime: Runtime, ts: str, name: str) -> Object:
    """The Studio once it runs; one that is just starting is waited for.

    Raises:
        Conflict: It does not run.
    """
    store = runtime.cloud.store
    studio = await asyncio.to_thread(store.get, "studio", ts, name)
    deadline = asyncio.get_running_loop().time() + READY_WAIT_S
    async with store.subscribe() as changed:
        while not _is_ready(runtime, studio):
            left = deadline - asyncio.get_running_loop().time()
            if not _may_run(studio) or left <= 0:
                state, reason = studio.status["state"], studio.status["reason"]
                raise Conflict(
                    f"The Studio {name!r} is {state}{': ' + reason if reason else '.'}",
                    f"Start it first: blixt studio start {name}",
                )
            await changed.wait(min(left, 1.0))
            found = await asyncio.to_thread(find_object, runtime, studio.uid)
            if found is None:
                raise NotFound(f"The Studio {name!r} was deleted.")
            studio = found
    return studio


def _is_ready(runtime: Runtime, studio: Object) -> bool:
    allocation = studio.status["allocation"]
    return (
        studio.status["state"] == "running"
        and allocation is not None
        and runtime.hub.connection(allocation) is not None
    )


def _may_run(studio: Object) -> bool:
    return studio.spec["desired"] == "running" and studio.status["state"] != "failed" and not studio.deleting


async def _open(runtime: Runtime, studio: Object, op: str, **params: Any) -> Channel:
    try:
        return await runtime.hub.open(studio.status["allocation"], op, **params)
    except AgentGone as error:
        raise Unavailable(f"The Studio's machine did not answer: {error}", "Try again.") from error


async def _audit(
    runtime: Runtime, caller: Principal, action: str, studio: Object, detail: dict[str, str]
) -> None:
    await asyncio.to_thread(
        runtime.cloud.audit.write, caller, action, "studio", studio.teamspace, studio.name, detail=detail
    )


def _as_cloud_error(error: RemoteError) -> CloudError:
    if error.code == "not_found":
        return NotFound(str(error))
    return Conflict(str(error))
