"""Asking a replica whether it is well: one small HTTP request through the agent."""

import asyncio

from blixt.cloud.hub import Hub

TIMEOUT_S = 5.0
MOST_HEAD_BYTES = 16 * 1024


async def is_healthy(hub: Hub, allocation: str, port: int, path: str) -> bool:
    """Whether `GET path` answers with a status below 400."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await _status(hub, allocation, port, path) < 400
    except (ConnectionError, TimeoutError, ValueError):
        return False


async def _status(hub: Hub, allocation: str, port: int, path: str) -> int:
    stream = await hub.dial(allocation, port)
    try:
        request = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: blixt\r\nConnection: close\r\n\r\n"
        )
        await stream.write(request.encode())
        head = b""
        while b"\r\n" not in head and len(head) < MOST_HEAD_BYTES:
            piece = await stream.read(1024)
            if not piece:
                raise ConnectionError("no answer")
            head += piece
        return int(head.split(b"\r\n", 1)[0].split(b" ")[1])
    except IndexError as error:
        raise ValueError("not an HTTP answer") from error
    finally:
        await stream.close()
