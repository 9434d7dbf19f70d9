"""Clients and replicas that misbehave at random, by fixed seeds: afterwards nothing may be left behind."""

import asyncio
import contextlib
import random

import pytest

from blixt.cloud.gateway import Limits

from .rig import Client, Rig, eventually, rigged

pytestmark = pytest.mark.anyio


class _Moody:
    """A replica that answers, dawdles, dies or talks nonsense."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            mood = self._dice.randrange(8)
            if mood == 0:
                return writer.transport.abort()
            if mood == 1:
                writer.write(b"nonsense\r\n\r\n")
                return None
            if b"transfer-encoding" in head:
                await reader.readuntil(b"0\r\n\r\n")
            if mood == 2:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
                return None
            if mood == 3:
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                for _ in range(50):
                    writer.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
                    await writer.drain()
                writer.write(b"0\r\n\r\n")
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()


async def _misbehave(rig: Rig, dice: random.Random) -> None:
    client = await rig.connect()
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        for _ in range(dice.randrange(1, 5)):
            await _one_request(client, dice)
    client.drop()


async def _one_request(client: Client, dice: random.Random) -> None:
    method = dice.choice([b"GET", b"PUT", b"POST"])
    start = method + b" /d/lab/m/ HTTP/1.1\r\nHost: x\r\n"
    if method == b"GET":
        await client.send(start + b"\r\n" * dice.randrange(1, 3))
    else:
        await client.send(start + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        if dice.random() < 0.2:
            return client.drop()
        await client.send(b"0\r\n\r\n")
    if dice.random() < 0.3:
        return client.drop()
    await client.head()
    return None


@pytest.mark.parametrize("seed", range(3))
async def test_after_a_storm_no_request_connection_or_task_is_left(seed: int) -> None:
    dice = random.Random(seed)
    limits = Limits(half_closed_s=0.1, recover_s=0.2, linger_s=0.2, upstream_idle_s=0.2)
    async with rigged(limits=limits) as rig:
        for name in ("a1", "a2", "a3"):
            await rig.serve(name, _Moody(dice))
        rig.set_replicas("a1", "a2", "a3", "gone", max_concurrency=8)
        before = len(asyncio.all_tasks())
        await asyncio.gather(*(_misbehave(rig, dice) for _ in range(120)))
        await eventually(lambda: not rig.gateway._context.connections)
        await eventually(lambda: len(asyncio.all_tasks()) <= before)
        stats = rig.gateway.stats()["u1"]
        assert (stats.in_flight, stats.waiting) == (0, 0)
        assert stats.total > 100
        assert not rig.gateway._context.pool._idle
