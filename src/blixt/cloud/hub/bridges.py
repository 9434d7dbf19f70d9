"""From an agent's channel to what HTTP clients see: lines of JSON, a file's bytes, a terminal's frames."""

import asyncio
import codecs
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect

from blixt.cloud.agent import Channel, ChannelClosed, RemoteError
from blixt.cloud.agent.protocol import Kind
from blixt.cloud.json_object import json_object


async def exec_lines(channel: Channel) -> AsyncIterator[bytes]:
    """Output as it comes, never cutting a character, then the exit code."""
    new_decoder = codecs.getincrementaldecoder("utf-8")
    decoders = {Kind.DATA: new_decoder("replace"), Kind.ERR: new_decoder("replace")}
    names = {Kind.DATA: "stdout", Kind.ERR: "stderr"}
    try:
        while (piece := await channel.read()) is not None:
            text = decoders[piece[0]].decode(piece[1])
            if text:
                yield _line({"stream": names[piece[0]], "data": text})
        try:
            result = await channel.result()
            yield _line({"exit": result["exit"]})
        except (RemoteError, ChannelClosed) as error:
            message = f"The command was cut off: {error}."
            yield _line({"error": {"code": "cut_off", "message": message, "hint": "The Studio stopped."}})
    finally:
        await channel.cancel()


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


async def file_bytes(channel: Channel) -> AsyncIterator[bytes]:
    """A file as it comes; one that cannot be read to its end breaks off."""
    try:
        while (piece := await channel.read()) is not None:
            yield piece[1]
        await channel.result()
    finally:
        await channel.cancel()


async def join_terminal(websocket: WebSocket, channel: Channel) -> None:
    """Show a terminal on a WebSocket until the shell ends or the browser goes away."""
    shown = asyncio.create_task(_show(websocket, channel))
    typed = asyncio.create_task(_type(websocket, channel))
    try:
        await asyncio.wait({shown, typed}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        shown.cancel()
        typed.cancel()
        await asyncio.gather(shown, typed, return_exceptions=True)
        await channel.cancel()


async def _show(websocket: WebSocket, channel: Channel) -> None:
    """The shell's output to the browser, then its exit."""
    while (piece := await channel.read()) is not None:
        await websocket.send_bytes(piece[1])
    try:
        end = await channel.result()
    except (RemoteError, ChannelClosed) as error:
        end = {"exit": None, "error": str(error)}
    await websocket.send_text(json.dumps(end))
    await websocket.close()


async def _type(websocket: WebSocket, channel: Channel) -> None:
    """The browser's keys to the shell, its size as notes."""
    try:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("bytes"):
                await channel.write(message["bytes"])
            elif message.get("text"):
                await channel.note(_note(message["text"]))
    except (WebSocketDisconnect, ChannelClosed):
        return


def _note(text: str) -> dict[str, Any]:
    return json_object(text) or {}
