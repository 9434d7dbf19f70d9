"""Clients that send their bodies slowly: what they hold together is bounded, and comes back."""

import socket

import httpx
import pytest

from blixt.serve import Limits, Server
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
