"""Websocket sessions in the worker, the test in the place of the front."""

import asyncio
import struct
import threading

import msgspec
import pytest

from blixt.serve import API, HTTPError, SocketClosed
from blixt.serve.wire import Kind

from .loop_rig import worker

OPEN = msgspec.json.encode({"path": "/talk", "query": "a=1", "headers": [["x-a", "1"]], "subprotocols": []})


def close(code, reason=""):
    return struct.pack(">H", code) + reason.encode()


class Talk(API):
    """A coroutine."""

    async def session(self, socket):
        await socket.send({"path": socket.path, "query": socket.query, "x": socket.headers["x-a"]})
        async for message in socket:
            if message == "bye":
                await socket.close(4000, "as you wish")
                return
            if message == "tea":
                raise HTTPError(418, "short and stout")
            await socket.send(message)


class Generator(API):
    async def session(self, socket):
        async for message in socket:
            yield message.upper()


class Blocking(API):
    def session(self, socket):
        for message in socket:
            socket.send(message + "!")


class BlockingGenerator(API):
    def session(self, socket):
        yield "hello"
        yield socket.receive(timeout_s=60)


def test_a_coroutine_talks_and_knows_what_was_asked_for():
    with worker(Talk()) as (front, page):
        front.send((1, Kind.OPEN, OPEN))
        assert front.next() == (1, Kind.DATA, b't{"path":"/talk","query":"a=1","x":"1"}')
        front.send((1, Kind.DATA, b"thi"), (1, Kind.DATA, b"b\x00\xff"))
        assert front.next() == (1, Kind.DATA, b"thi")
        assert front.next() == (1, Kind.DATA, b"b\x00\xff")
        front.send((1, Kind.DATA, b"tbye"))
        assert front.next() == (1, Kind.CLOSE, close(4000, "as you wish"))
        assert page.started == 1


def test_the_clients_close_ends_the_session():
    with worker(Talk()) as (front, _):
        front.send((1, Kind.OPEN, OPEN))
        front.next()
        front.send((1, Kind.CLOSE, close(1001, "gone")))
        assert front.next() == (1, Kind.END, b"")


def test_an_error_ends_the_session_with_it():
    with worker(Talk()) as (front, _):
        front.send((1, Kind.OPEN, OPEN), (1, Kind.DATA, b"ttea"))
        front.next()
        _, kind, payload = front.next()
        assert kind == Kind.ERROR
        assert b"short and stout" in payload


@pytest.mark.parametrize(
    ("api", "answer"), [(Generator(), b"tHI"), (Blocking(), b"thi!"), (BlockingGenerator(), b"thello")]
)
def test_generators_and_blocking_sessions_talk_too(api, answer):
    with worker(api) as (front, _):
        front.send((1, Kind.OPEN, OPEN), (1, Kind.DATA, b"thi"))
        assert front.next() == (1, Kind.DATA, answer)
        front.send((1, Kind.CLOSE, close(1000)))
        assert front.until(1, Kind.END)[-1] == (Kind.END, b"")


def test_two_blocking_sessions_run_side_by_side():
    with worker(Blocking()) as (front, _):
        front.send((1, Kind.OPEN, OPEN), (2, Kind.OPEN, OPEN))
        front.send((2, Kind.DATA, b"ttwo"))
        assert front.next() == (2, Kind.DATA, b"ttwo!")
        front.send((1, Kind.DATA, b"tone"))
        assert front.next() == (1, Kind.DATA, b"tone!")
        front.send((1, Kind.CLOSE, close(1000)), (2, Kind.CLOSE, close(1000)))


def test_a_session_that_does_not_read_is_not_sent_more_than_it_can_hold():
    class Slow(API):
        async def session(self, socket):
            self.loop, self.go = asyncio.get_running_loop(), asyncio.Event()
            ready.set()
            await self.go.wait()
            async for message in socket:
                await socket.send(message)

    ready, api = threading.Event(), Slow()
    with worker(api) as (front, _):
        front.send((1, Kind.OPEN, OPEN))
        assert ready.wait(60)
        front.send(*((1, Kind.DATA, b"t%d" % i) for i in range(64)))
        assert front.next() == (1, Kind.PAUSE, b"")
        api.loop.call_soon_threadsafe(api.go.set)
        got = [front.next() for _ in range(65)]
        assert (1, Kind.RESUME, b"") in got
        assert [p for _, k, p in got if k == Kind.DATA] == [b"t%d" % i for i in range(64)]
        front.send((1, Kind.CLOSE, close(1000)))


def test_a_client_that_is_behind_holds_the_session():
    class Chatter(API):
        async def session(self, socket):
            first = await socket.receive()
            for i in range(1000):
                await socket.send(first + str(i))
                await asyncio.sleep(0)

    with worker(Chatter()) as (front, _):
        front.send((1, Kind.OPEN, OPEN), (1, Kind.PAUSE, b""), (1, Kind.DATA, b"tx"))
        front.send((2, Kind.OPEN, OPEN), (2, Kind.DATA, b"ty"))
        assert [id for id, _, _ in (front.next() for _ in range(1001))] == [2] * 1001
        front.send((1, Kind.RESUME, b""))
        assert front.next() == (1, Kind.DATA, b"tx0")
        front.until(1, Kind.END)


def test_sending_to_a_client_that_has_gone_raises_and_says_why():
    class Stubborn(API):
        async def session(self, socket):
            try:
                while True:
                    await socket.receive()
            except SocketClosed as closed:
                why.append((closed.code, closed.reason))
            with pytest.raises(SocketClosed):
                await socket.send("more")
            said.set()

    why, said = [], threading.Event()
    with worker(Stubborn()) as (front, _):
        front.send((1, Kind.OPEN, OPEN), (1, Kind.CLOSE, close(1006, "cut off")))
        assert said.wait(60)
        assert why == [(1006, "cut off")]


def test_an_api_with_a_session_still_answers_posts():
    class Both(Blocking):
        def predict(self, x: int) -> int:
            return x + 1

    with worker(Both()) as (front, _):
        front.send((1, Kind.OPEN, OPEN))
        assert front.ask(b"1", id=2) == (Kind.OK, b"2")
        front.send((1, Kind.CLOSE, close(1000)))
