"""The door for agents: they prove which allocation they are and stay connected."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from blixt.cloud.agent.protocol import ProtocolError
from blixt.cloud.api.access import public, refuse_websocket
from blixt.cloud.controllers.runtime import runtime_of
from blixt.cloud.errors import CloudError

router = APIRouter(tags=["agents"])


@router.websocket("/agents/connect")
@public  # an allocation's own token lets it in, see `Allocations.attach`
async def connect_agent(websocket: WebSocket) -> None:
    """Serve one agent until it goes away."""
    runtime = runtime_of(websocket)
    token = websocket.headers.get("authorization", "").removeprefix("Bearer ").strip()
    try:
        attached = await asyncio.to_thread(runtime.allocations.attach, token)
    except CloudError as error:
        await refuse_websocket(websocket, error)
        return
    await websocket.accept()
    try:
        await runtime.hub.serve(attached, websocket.send_bytes, _messages(websocket))
    except ProtocolError as error:
        await websocket.close(1002, str(error)[:120])


async def _messages(websocket: WebSocket) -> AsyncIterator[bytes]:
    try:
        while True:
            yield await websocket.receive_bytes()
    except WebSocketDisconnect:
        return
