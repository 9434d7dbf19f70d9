"""The runtime's Streams are not sockets: only read, write and close. Everything must work over such, too."""

import asyncio

import pytest

from blixt.cloud.gateway import Stream, connect_tcp

from .rig import DEADLINE_S, OK, Recorder, Rig, eventually, status, within

pytestmark = pytest.mark.anyio
GET = b"GET /d/lab/m/x HTTP/1.1\r\nHost: x\r\n\r\n"


class Multiplexed:
    """A stream with nothing but the three methods of the protocol, and reads of at most `n` bytes."""

    def __init__(self, inner: Stream) -> None:
        self._inner = inner
        self._rest = b""
        self.closed = asyncio.Event()

    async def read(self, n: int = 65536) -> bytes:
        data = self._rest or await self._inner.read()
        self._rest = data[n:]
        return data[:n]

    async def write(self, data: bytes) -> None:
        await self._inner.write(data)

    async def close(self) -> None:
        self.closed.set()
        await self._inner.close()


@pytest.fixture
def streams(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> list[Multiplexed]:
    made: list[Multiplexed] = []

    async def dial(allocation_id: str, port: int) -> Stream:
        made.append(Multiplexed(await connect_tcp("127.0.0.1", rig.ports[allocation_id])))
        return made[-1]

    monkeypatch.setattr(rig, "dial", dial)
    return made


async def test_one_stream_serves_requests_one_after_the_other(rig: Rig, streams: list[Multiplexed]) -> None:
    code = Recorder()
    await rig.deploy(code)
    client = await rig.connect()
    body = b"x" * 300_000
    for _ in range(3):
        await client.send(b"POST /d/lab/m/ HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + body)
        assert status(await client.head()) == 200
        assert await client.exactly(2) == b"ok"
    assert [seen.body for seen in code.seen] == [body] * 3
    assert len(streams) == 1


async def test_a_kept_stream_that_ended_is_not_used_again(rig: Rig, streams: list[Multiplexed]) -> None:
    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await writer.drain()

    server = await rig.deploy(one)
    client = await rig.connect()
    for n in range(3):
        server.ended.clear()
        await client.send(GET.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 0\r\n\r\n"))
        assert status(await client.head()) == 200
        await client.exactly(2)
        await within(server.ended)
        await asyncio.wait_for(streams[n].closed.wait(), DEADLINE_S)
    assert len(streams) == 3


async def test_a_tunnel_over_a_stream_ends_with_its_client(rig: Rig, streams: list[Multiplexed]) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    await rig.deploy(echo)
    client = await rig.connect()
    await client.send(GET.replace(b"\r\n\r\n", b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"))
    assert status(await client.head()) == 101
    await client.send(b"y" * 500_000)
    assert await client.exactly(500_000) == b"y" * 500_000
    client.drop()
    await within(streams[0].closed)
    await eventually(lambda: rig.gateway.stats()["u1"].in_flight == 0)
