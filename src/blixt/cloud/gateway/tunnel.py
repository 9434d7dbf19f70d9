"""After a WebSocket upgrade the gateway carries bytes both ways until one side ends."""

import asyncio
from typing import TYPE_CHECKING

from blixt.cloud.gateway.errors import ClientGone
from blixt.cloud.gateway.upstream import Upstream

if TYPE_CHECKING:
    from blixt.cloud.gateway.connection import Connection


async def tunnel(connection: "Connection", upstream: Upstream) -> None:
    """Carry bytes until the upstream ends, or the client is gone.

    A client that ends only its sending side is passed on where the stream can say so, and gets
    `Limits.half_closed_s` for what is still on its way.
    """
    connection.settle()
    rising = asyncio.get_running_loop().create_task(_rise(connection, upstream))
    try:
        channel = connection.channel
        while data := await upstream.read():
            channel.send(data)
            if channel.congested:
                await connection.drain()
    except ConnectionError as error:
        raise ClientGone("the upstream of the tunnel broke") from error
    finally:
        if not rising.done():
            rising.cancel()
            await asyncio.wait([rising])


async def _rise(connection: "Connection", upstream: Upstream) -> None:
    try:
        while data := await connection.channel.read():
            await upstream.write(data)
        await upstream.write_eof()
    except ConnectionError:
        connection.interrupt(ClientGone("the tunnel broke"))
