import asyncio
import json

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from blixt.cloud.gateway import StudioApp, StudioRoute

from .rig import Rig, eventually, status, within

pytestmark = pytest.mark.anyio
UPGRADE = (
    b"GET /d/lab/m/ HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def _echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


def _ws(rig: Rig, path: str = "/d/lab/m/") -> str:
    return f"ws://127.0.0.1:{rig.port}{path}"


async def test_messages_of_every_size_travel_both_ways(rig: Rig) -> None:
    async with serve(_echo, "127.0.0.1", 0, max_size=None) as upstream:
        rig.ports["a1"] = upstream.sockets[0].getsockname()[1]
        rig.set_replicas("a1")
        async with connect(_ws(rig), max_size=None, compression=None) as client:
            for message in ("hi", b"\0\1\2", "x" * 100_000, b"y" * (4 << 20)):
                await client.send(message)
                assert await client.recv() == message


async def test_compression_is_agreed_between_the_ends(rig: Rig) -> None:
    async with serve(_echo, "127.0.0.1", 0) as upstream:
        rig.ports["a1"] = upstream.sockets[0].getsockname()[1]
        rig.set_replicas("a1")
        async with connect(_ws(rig)) as client:
            assert "permessage-deflate" in client.response.headers["Sec-WebSocket-Extensions"]  # type: ignore[union-attr]
            await client.send("z" * 10_000)
            assert await client.recv() == "z" * 10_000


async def test_close_codes_and_reasons_pass(rig: Rig) -> None:
    async def leave(connection: ServerConnection) -> None:
        await connection.close(4321, "enough")

    async with serve(leave, "127.0.0.1", 0) as upstream:
        rig.ports["a1"] = upstream.sockets[0].getsockname()[1]
        rig.set_replicas("a1")
        async with connect(_ws(rig)) as client:
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert (client.close_code, client.close_reason) == (4321, "enough")


async def test_an_open_websocket_counts_as_in_flight_and_its_end_reaches_the_upstream(rig: Rig) -> None:
    ended = asyncio.Event()

    async def wait(connection: ServerConnection) -> None:
        await connection.wait_closed()
        ended.set()

    async with serve(wait, "127.0.0.1", 0) as upstream:
        rig.ports["a1"] = upstream.sockets[0].getsockname()[1]
        rig.set_replicas("a1")
        client = await connect(_ws(rig))
        assert rig.gateway.stats()["u1"].in_flight == 1
        client.transport.abort()
        await within(ended)
        await eventually(lambda: rig.gateway.stats()["u1"].in_flight == 0)


async def test_an_upstream_that_dies_ends_the_clients_websocket(rig: Rig) -> None:
    async def die(connection: ServerConnection) -> None:
        connection.transport.abort()

    async with serve(die, "127.0.0.1", 0) as upstream:
        rig.ports["a1"] = upstream.sockets[0].getsockname()[1]
        rig.set_replicas("a1")
        async with connect(_ws(rig)) as client:
            with pytest.raises(ConnectionClosed):
                await client.recv()


async def test_bytes_sent_right_behind_the_handshake_are_not_lost(rig: Rig) -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nfirst"
        )
        writer.write(await reader.readexactly(6))
        await writer.drain()
        await reader.read(-1)

    await rig.deploy(early)
    client = await rig.connect()
    await client.send(UPGRADE + b"second")
    assert status(await client.head()) == 101
    assert await client.exactly(11) == b"firstsecond"


async def test_half_close_is_passed_on_and_the_rest_still_arrives(rig: Rig) -> None:
    async def answer_at_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        writer.write(b"got " + await reader.read(-1))
        await writer.drain()

    await rig.deploy(answer_at_the_end)
    client = await rig.connect()
    await client.send(UPGRADE)
    await client.head()
    await client.send(b"all")
    client.writer.write_eof()
    assert await client.all() == b"got all"


async def test_a_refused_upgrade_is_an_ordinary_answer(rig: Rig) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    await rig.deploy(refuse)
    with pytest.raises(InvalidStatus) as refused:
        await connect(_ws(rig))
    assert refused.value.response.status_code == 418


async def test_an_upstream_may_not_switch_protocols_unasked(rig: Rig) -> None:
    async def switch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        await writer.drain()

    await rig.deploy(switch)
    answer = await rig.ask(b"GET /d/lab/m/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert status(answer) == 502


@pytest.mark.parametrize(
    ("origin", "expected"),
    [("same", 101), (None, 101), ("http://evil.example", 403), ("null", 403), ("other-port", 403)],
)
async def test_a_studio_websocket_takes_only_its_own_origin_and_gets_the_routes_headers(
    rig: Rig, origin: str | None, expected: int
) -> None:
    headers: dict[str, str] = {}

    async def note(connection: ServerConnection) -> None:
        assert connection.request is not None
        headers.update(connection.request.headers.raw_items())
        await connection.send("hello")

    async with serve(note, "127.0.0.1", 0) as upstream:
        rig.ports["a9"] = upstream.sockets[0].getsockname()[1]
        app = StudioApp(8888, {"Authorization": "token inner"})
        rig.table.set_studio(StudioRoute("0123456789abcdef", "lab", "s", "a9", {"jupyter": app}))
        host = f"jupyter-0123456789ab.localhost:{rig.port}"
        ticket = rig.gateway.issue_ticket("alice", "0123456789abcdef", "jupyter").partition("?")[2]
        login = await rig.ask(
            f"GET /_blixt/login?{ticket} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        )
        cookie = login.partition(b"set-cookie: ")[2].partition(b";")[0].decode()
        origins = {"same": f"http://{host}", "other-port": "http://jupyter-0123456789ab.localhost:1"}
        opening = connect(
            f"ws://{host}/api/kernels",
            host="127.0.0.1",
            port=rig.port,
            origin=origins.get(origin, origin) if origin else None,  # type: ignore[arg-type]
            additional_headers={"Cookie": f"{cookie}; mine=1"},
        )
        if expected == 101:
            async with opening as client:
                assert await client.recv() == "hello"
            assert headers["authorization"] == "token inner"
            assert headers["cookie"] == "mine=1"
        else:
            with pytest.raises(InvalidStatus) as refused:
                await opening
            assert refused.value.response.status_code == expected
            assert json.loads(refused.value.response.body)["error"]["code"] == "forbidden"
