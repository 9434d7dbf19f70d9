"""The API as it really is: FastAPI on uvicorn behind a unix socket."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from websockets.asyncio.client import connect

from blixt.cloud.gateway import Gateway, RouteTable, Stream

from .rig import eventually, within

pytestmark = pytest.mark.anyio


class Api:
    """A small FastAPI app that notes who left."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.left = asyncio.Event()
        self.app.get("/who")(self.who)
        self.app.post("/sum")(self.sum)
        self.app.get("/events")(self.events)
        self.app.websocket("/ws")(self.websocket)

    async def who(self, request: Request) -> dict[str, object]:
        return {"client": request.client.host if request.client else None, "host": request.headers["host"]}

    async def sum(self, request: Request) -> dict[str, int]:
        return {"bytes": sum([len(part) async for part in request.stream()])}

    async def events(self) -> StreamingResponse:
        async def numbers() -> AsyncIterator[str]:
            try:
                for n in range(10**9):
                    yield f"data: {n}\n\n"
                    await asyncio.sleep(0)
            finally:
                self.left.set()

        return StreamingResponse(numbers(), media_type="text/event-stream")

    async def websocket(self, socket: WebSocket) -> None:
        await socket.accept()
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await socket.send_bytes(await socket.receive_bytes())
        self.left.set()


@contextlib.asynccontextmanager
async def _running(api: Api, folder: Path) -> AsyncIterator[str]:
    uds = str(folder / "api.sock")
    config = uvicorn.Config(
        api.app, uds=uds, log_level="warning", proxy_headers=True, forwarded_allow_ips="*"
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())
    await eventually(lambda: server.started)

    async def dial(allocation_id: str, port: int) -> Stream:
        raise ConnectionRefusedError

    async def nobody(token: str) -> None:
        return None

    async def never(principal: object, teamspace: str) -> bool:
        return False

    gateway = Gateway(RouteTable(), dial, nobody, never, lambda uid: None, api=uds)
    port = await gateway.start("127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await gateway.stop(drain_s=1)
        server.should_exit = True
        await serving


async def test_the_api_sees_the_clients_address_and_host(tmp_path: Path) -> None:
    async with _running(Api(), tmp_path) as address, httpx.AsyncClient() as client:
        answer = await client.get(f"http://{address}/who")
        assert answer.json() == {"client": "127.0.0.1", "host": address}


async def test_a_large_upload_of_unknown_length_arrives(tmp_path: Path) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"x" * 50_000

    async with _running(Api(), tmp_path) as address, httpx.AsyncClient() as client:
        answer = await client.post(f"http://{address}/sum", content=parts())
        assert answer.json() == {"bytes": 64 * 50_000}


async def test_leaving_an_endless_event_stream_ends_it_in_the_api(tmp_path: Path) -> None:
    api = Api()
    async with _running(api, tmp_path) as address, httpx.AsyncClient() as client:
        async with client.stream("GET", f"http://{address}/events") as answer:
            lines = answer.aiter_lines()
            assert await anext(lines) == "data: 0"
        await within(api.left)


async def test_a_websocket_of_the_api_echoes_and_ends(tmp_path: Path) -> None:
    api = Api()
    async with _running(api, tmp_path) as address:
        async with connect(f"ws://{address}/ws", max_size=None) as socket:
            await socket.send(b"z" * 1_000_000)
            assert await socket.recv() == b"z" * 1_000_000
        await within(api.left)
