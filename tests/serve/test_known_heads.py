"""A connection looks a read up before it parses it: what is known needs no parser, all else does."""

import asyncio
from types import SimpleNamespace

import pytest
import uvicorn
from uvicorn.server import ServerState

from blixt.serve import Limits
from blixt.serve.http.hot import HotProtocol
from blixt.serve.http.hot_heads import Heads
from blixt.serve.http.hot_known import MAX_MISSES, KnowingProtocol, KnownHeads
from blixt.serve.http.hot_patience import Patience
from blixt.serve.http.meta import PLAIN
from blixt.serve.http.room import Room
from blixt.serve.wire import Kind

pytestmark = pytest.mark.anyio


class Connection:
    """A connection without a socket, whose requests are answered at once, and what came of its reads."""

    def __init__(self, monkeypatch):
        self.bodies, self.written, self.parsed, self.keys = [], [], 0, {b"good"}
        route = SimpleNamespace(
            gate=SimpleNamespace(
                authorized=self.authorized, room=Room(10**6), access_log=None, compress_over_bytes=0
            ),
            hub=SimpleNamespace(submit=lambda body, sink: self.bodies.append(body)),
            metrics=SimpleNamespace(answered=lambda status, seconds: None),
            admit=lambda headers, noted, url: PLAIN,
            max_payload_bytes=10**6,
            plain_bytes=1000,
            stream=False,
            error_body=None,
        )
        config = uvicorn.Config(self.written.append)
        config.load()
        patience = Patience.of(Limits(), float("inf"))
        told = {"config": config, "server_state": ServerState(), "app_state": {}}
        loop = asyncio.get_running_loop()
        self.protocol = KnowingProtocol(
            KnownHeads(), {b"/x": route}, None, patience, Heads(), **told, _loop=loop
        )
        transport = SimpleNamespace(
            write=self.written.append,
            get_extra_info=lambda name: None,
            is_closing=lambda: False,
            close=lambda: None,
        )
        self.protocol.connection_made(transport)
        parse = HotProtocol.data_received

        def count(protocol, data):
            self.parsed += 1
            parse(protocol, data)

        monkeypatch.setattr(HotProtocol, "data_received", count)

    def authorized(self, headers):
        return dict(headers).get(b"x-api-key", b"good") in self.keys

    def send(self, *reads):
        """Let reads come in, and answer what they ask; how many of them were parsed."""
        before, asked = self.parsed, len(self.bodies)
        for data in reads:
            self.protocol.data_received(data)
        if len(self.bodies) > asked:
            self.protocol.cycle.deliver(Kind.OK, b"1")
        return self.parsed - before


@pytest.fixture
async def connection(monkeypatch):
    connection = Connection(monkeypatch)
    yield connection
    connection.protocol.connection_lost(None)


def request(body, *lines):
    head = [b"POST /x HTTP/1.1", b"host: a", *lines, b"content-length: %d" % len(body)]
    return b"\r\n".join([*head, b"", body])


async def test_from_the_third_time_on_a_head_needs_no_parser_whatever_the_body(connection):
    assert [connection.send(request(b"a%d" % n)) for n in range(6)] == [1, 1, 0, 0, 0, 0]
    assert connection.bodies == [b"a%d" % n for n in range(6)]
    assert len(connection.written) == 6
    assert connection.written[-1].endswith(b"content-length: 1\r\n\r\n1")


async def test_what_is_not_one_whole_known_request_is_parsed(connection):
    data = request(b"abc")
    for _ in range(3):
        connection.send(data)
    assert connection.send(data[:-1], data[-1:]) == 2
    assert connection.send(data[:30], data[30:]) == 2
    assert connection.send(request(b"abcd")) == 1
    assert connection.send(data) == 0
    assert connection.bodies == [b"abc"] * 5 + [b"abcd", b"abc"]


async def test_a_known_head_whose_key_is_good_no_more_is_parsed_and_checked_as_any(connection):
    data = request(b"abc", b"x-api-key: good")
    assert [connection.send(data) for _ in range(3)] == [1, 1, 0]
    connection.keys.clear()
    assert connection.send(data) == 1
    connection.keys.add(b"good")
    assert connection.send(data) == 0


@pytest.mark.parametrize("line", [b"connection: close", b"expect: 100-continue", b"x-request-id: a"])
async def test_heads_that_ask_for_more_or_hardly_come_again_are_not_learned(connection, line):
    for _ in range(1 if line == b"connection: close" else 4):
        assert connection.send(request(b"abc", line)) == 1


async def test_a_connection_whose_heads_are_all_different_looks_no_more(connection):
    for n in range(MAX_MISSES + 1):
        assert connection.send(request(b"abc", b"n: %d" % n)) == 1
    assert [connection.send(request(b"abc")) for _ in range(4)] == [1] * 4
