"""Clients that send their bodies slowly: what they hold together is bounded, and comes back."""

import asyncio
import contextlib
import socket

import httpx
import pytest

from blixt.serve import Limits, Server
from blixt.serve.http.hot_patience import Patience
from blixt.serve.http.patient import PatientApp
from blixt.serve.testing import running, wait_until

from .apis import Raw

BOUND = 2**20
HEAD = b"POST /raw HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module", params=[True, False], ids=["hot", "cold"])
def service(request):
    limits = Limits(max_queue_bytes=BOUND)
    with running(Server(Raw(), accelerator="cpu", limits=limits, hot_lane=request.param)) as service:
        yield service


def slow_writer(service, size):
    """A client that has sent so much of a body, and leaves the rest for later."""
    url = httpx.URL(service.url)
    sock = socket.create_connection((url.host, url.port), 60)
    sock.sendall(HEAD + b"%x\r\n%b\r\n" % (size, bytes(size)))
    return sock


def status_of(service, size):
    """What a client is told that sends a chunked body in one go."""
    return httpx.post(f"{service.url}/raw", content=iter([bytes(size)]), timeout=60).status_code


def test_what_slow_writers_hold_is_refused_to_others_and_comes_back_when_they_leave(service):
    with slow_writer(service, 700_000), slow_writer(service, 200_000):
        wait_until(lambda: status_of(service, 300_000) == 429, 60, "the slow bodies to fill the room")
        assert status_of(service, 10) == 200
    wait_until(lambda: status_of(service, 1_000_000) == 200, 60, "the room to be free")


def test_a_slow_writer_is_served_in_the_end(service):
    with slow_writer(service, 700_000) as sock:
        sock.sendall(b"2\r\nab\r\n0\r\n\r\n")
        assert sock.recv(1 << 16).startswith(b"HTTP/1.1 200")
    assert status_of(service, 1_000_000) == 200


def test_a_body_without_room_is_429_with_a_time_to_come_back_and_ends_the_connection(service):
    with slow_writer(service, BOUND + 1) as sock:
        received = b""
        while data := sock.recv(1 << 16):
            received += data
    assert received.startswith(b"HTTP/1.1 429")
    assert b"retry-after: 1\r\n" in received
    assert b"connection: close\r\n" in received
    assert b"try again later" in received
    assert status_of(service, 1_000_000) == 200


TRICKLING = [
    b"POST /raw HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n",  # in shared memory, in the hot lane
    b"POST /raw HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n",
    HEAD,
]


@pytest.fixture(scope="module", params=["hot", "cold", "h11"])
def strict(request):
    """A server that is soon tired of a body that comes drop by drop; a pause alone does not tire it."""
    limits = Limits(receive_timeout_s=0.5, min_bytes_per_s=1e6)
    server = Server(Raw(), accelerator="cpu", limits=limits, hot_lane=request.param != "cold")
    with running(server, uvicorn={"http": "h11"} if request.param == "h11" else None) as service:
        yield service


def trickled(service, head):
    """What a client gets that sends byte after byte; None if it was cut off while it sent.

    The server reads on for two seconds after its answer. A client that is held up for longer right then loses
    the answer, as TCP has it.
    """
    url = httpx.URL(service.url)
    received = b""
    with socket.create_connection((url.host, url.port), 60) as sock:
        sock.sendall(head)
        sock.settimeout(0.02)
        while b"\r\n\r\n" not in received:
            try:
                data = sock.recv(1 << 16)
                if not data:
                    return None
                received += data
            except TimeoutError:
                sock.settimeout(60)
                with contextlib.suppress(ConnectionError):
                    sock.sendall(b"1\r\na\r\n" if head is HEAD else b"a")
                sock.settimeout(0.02)
            except ConnectionError:
                return None
    return received


@pytest.mark.parametrize("head", TRICKLING, ids=["large", "small", "chunked"])
def test_a_body_that_trickles_for_ever_is_408_and_ends_the_connection(strict, head):
    tries = (trickled(strict, head) for _ in range(20))
    received = next(answer for answer in tries if answer is not None)
    assert received.startswith(b"HTTP/1.1 408")
    assert b"connection: close\r\n" in received


async def told_by_asgi(patience, *events):
    """What a client gets whose body comes as these events, and what the app sees of it."""
    seen, sent, coming = [], [], iter(events)

    async def app(scope, receive, send):
        while not seen or seen[-1].get("more_body"):
            seen.append(await receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive():
        event = next(coming, None)
        if event is None:
            await asyncio.get_running_loop().create_future()  # nothing more comes
        return event

    async def send(event):
        sent.append(event)

    await PatientApp(app, patience)({"type": "http"}, receive, send)
    return sent, seen


@pytest.mark.anyio
async def test_where_only_asgi_is_left_a_body_that_stops_is_408_and_the_app_told_that_nobody_is_there():
    patience = Patience.of(Limits(receive_timeout_s=0.01), float("inf"))
    piece = {"type": "http.request", "body": b"a", "more_body": True}
    sent, seen = await told_by_asgi(patience, piece)
    assert (sent[0]["status"], b"stopped" in sent[1]["body"], len(sent)) == (408, True, 2)
    assert seen == [piece, {"type": "http.disconnect"}]
    whole = {"type": "http.request", "body": b"a"}
    sent, seen = await told_by_asgi(patience, whole)
    assert (sent[0]["status"], seen) == (200, [whole])


@pytest.mark.parametrize(
    ("silent_s", "took_s", "received", "word"),
    [
        (0, 19, 0, None),
        (21, 21, 10**9, "stopped"),
        (1, 21, 10, "too slowly"),
        (1, 119, 100_000, None),
        (1, 121, 100_000, "too slowly"),
        (19, 100_000, 100_000_000, None),
    ],
)
def test_a_body_has_a_while_and_a_second_more_for_each_so_many_bytes(silent_s, took_s, received, word):
    patience = Patience.of(Limits(receive_timeout_s=20, min_bytes_per_s=1000), float("inf"))
    verdict = patience.of_body(silent_s, took_s, received)
    assert (verdict is None) == (word is None)
    assert verdict is None or (verdict.status, word in verdict.sentence) == (408, True)
    at_any_rate = Patience.of(Limits(receive_timeout_s=20, min_bytes_per_s=0), float("inf"))
    assert at_any_rate.of_body(19, took_s, received) is None
