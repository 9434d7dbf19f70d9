"""Streaming, back-pressure, and what ends what."""

import asyncio
import json
from collections.abc import Callable

import httpx
import pytest

from blixt.cloud.gateway import Limits

from .rig import Recorder, Rig, eventually, rigged, status, within

pytestmark = pytest.mark.anyio
GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_events_arrive_one_by_one_as_they_are_sent() -> None:
    step = asyncio.Event()

    async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SSE)
        for n in range(5):
            event = b"data: %d\n\n" % n
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await writer.drain()
            await within(step)
            step.clear()
        writer.write(b"0\r\n\r\n")

    async with rigged(api_handler=upstream) as rig, httpx.AsyncClient() as client:
        got: list[str] = []
        async with client.stream("GET", rig.url) as answer:
            async for line in answer.aiter_lines():
                if line:
                    got.append(line)
                    step.set()  # the next event is only sent once this one has arrived
        assert got == [f"data: {n}" for n in range(5)]


async def test_upload_and_answer_stream_at_the_same_time() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while (line := await reader.readuntil(b"\r\n")) != b"0\r\n":
            chunk = await reader.readexactly(int(line, 16) + 2)
            writer.write(line + chunk)
        writer.write(b"0\r\n\r\n")

    async with rigged(api_handler=echo) as rig:
        client = await rig.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.head()
        for n in range(5):
            await client.send(b"1\r\n%d\r\n" % n)
            assert await client.exactly(6) == b"1\r\n%d\r\n" % n
        await client.send(b"0\r\n\r\n")
        assert await client.until(b"0\r\n\r\n") == b"0\r\n\r\n"


async def test_a_client_that_does_not_read_holds_the_upstream_back_in_bounded_memory() -> None:
    block = b"x" * 65536
    total = 512
    written = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (total * len(block)))
        for _ in range(total):
            writer.write(block)
            await writer.drain()
            written += len(block)

    async with rigged(api_handler=flood) as rig:
        client = await rig.connect()
        await client.send(GET)
        await client.head()
        await _settles(lambda: written)
        assert written < 12 << 20  # gateway buffers and the kernel's socket buffers, not the 32 MiB
        assert len(await client.exactly(total * len(block))) == total * len(block)


async def test_an_upstream_that_does_not_read_holds_the_client_back_in_bounded_memory() -> None:
    release = asyncio.Event()
    received = 0

    async def lazy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        await reader.readuntil(b"\r\n\r\n")
        await within(release)
        while received < 32 << 20:
            received += len(await reader.read(1 << 20))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with rigged(api_handler=lazy) as rig:
        client = await rig.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (32 << 20))
        sent = 0

        async def push() -> None:
            nonlocal sent
            for _ in range(512):
                await client.send(b"x" * 65536)
                sent += 65536

        pushing = asyncio.create_task(push())
        await _settles(lambda: sent)
        assert sent < 12 << 20
        release.set()
        await pushing
        assert status(await client.head()) == 200
        assert received == 32 << 20


async def _settles(value: Callable[[], int]) -> None:
    """Wait until a counter has moved and then stays for a while."""
    seen, still = -1, 0
    async with asyncio.timeout(60):
        while still < 30:
            await asyncio.sleep(0.01)
            still = still + 1 if value() == seen and seen > 0 else 0
            seen = value()


async def test_a_client_that_leaves_ends_the_upstream_request(rig: Rig) -> None:
    begun = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        begun.set()
        await reader.read(-1)

    server = await rig.deploy(endless)
    client = await rig.connect()
    await client.send(b"GET /d/lab/m/ HTTP/1.1\r\nHost: x\r\n\r\n")
    await within(begun)
    assert rig.gateway.stats()["u1"].in_flight == 1
    client.drop()
    await within(server.ended)
    await eventually(lambda: rig.gateway.stats()["u1"].in_flight == 0)


async def test_a_client_that_leaves_inside_its_body_ends_the_upstream_request() -> None:
    ended = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        ended.set()

    async with rigged(api_handler=wait) as rig:
        client = await rig.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        await eventually(lambda: rig.servers[0].accepted == 1)
        client.writer.close()
        await within(ended)


async def test_a_client_that_closed_its_sending_side_still_gets_a_prompt_answer(rig: Rig) -> None:
    client = await rig.connect()
    await client.send(GET)
    client.writer.write_eof()
    assert (await client.all()).endswith(b"ok")


async def test_a_half_closed_client_does_not_hold_a_slow_upstream_for_ever() -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    async with rigged(api_handler=never, limits=Limits(half_closed_s=0.05)) as rig:
        client = await rig.connect()
        client.writer.write(GET)
        client.writer.write_eof()
        with pytest.raises(ConnectionResetError):
            await client.all()
        await within(rig.servers[0].ended)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"GET / HTTP/1.1\r\nHost", 408),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab", 408),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 504),
    ],
)
async def test_what_takes_too_long_is_told_so(sent: bytes, expected: int) -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    limits = Limits(head_s=0.1, body_idle_s=0.1, response_s=0.2)
    async with rigged(api_handler=never, limits=limits) as rig:
        client = await rig.connect()
        await client.send(sent)
        answer = await client.all()
        assert status(answer) == expected
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]


async def test_an_idle_connection_is_closed_without_a_word() -> None:
    async with rigged(limits=Limits(idle_s=0.1)) as rig:
        client = await rig.connect()
        assert await client.all() == b""


async def test_a_client_that_never_reads_its_answer_is_dropped() -> None:
    body = b"x" * (16 << 20)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    async with rigged(Recorder(lambda seen: answer), limits=Limits(stall_s=0.1)) as rig:
        client = await rig.connect()
        await client.send(GET)
        await within(rig.servers[0].ended)


async def test_connections_beyond_the_limit_get_503() -> None:
    async with rigged(limits=Limits(connections=2)) as rig:
        keep = [await rig.connect() for _ in range(2)]
        for client in keep:
            await client.send(GET)
            await client.head()
        assert status(await (await rig.connect()).all()) == 503


async def test_stop_lets_a_running_request_end_and_closes_idle_connections(rig: Rig) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        begun.set()
        await within(release)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
        await writer.drain()

    await rig.deploy(slow)
    idle, busy = await rig.connect(), await rig.connect()
    await idle.send(GET)
    await idle.head()
    await idle.exactly(2)
    await busy.send(b"GET /d/lab/m/ HTTP/1.1\r\nHost: x\r\n\r\n")
    await within(begun)
    stopping = asyncio.create_task(rig.gateway.stop(drain_s=60))
    assert await idle.all() == b""
    release.set()
    answer = await busy.all()
    assert answer.endswith(b"done")
    assert b"connection: close" in answer
    await stopping
