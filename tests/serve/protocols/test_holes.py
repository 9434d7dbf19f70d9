"""What other servers get wrong in these matters, each shown right here."""

import concurrent.futures
import socket

import httpx
import pytest
from fastapi.testclient import TestClient

from blixt.serve import Limits, OpenAISpec, Server
from blixt.serve.testing import running, wait_until

from .apis import Guarded, Locate, Talker

TRICKLE_S = 0.5


@pytest.fixture(scope="module")
def strict():
    """A server that waits half a second for what a client owes it."""
    limits = Limits(receive_timeout_s=TRICKLE_S, max_payload_bytes=10_000)
    with running(Server([Locate(), Guarded()], accelerator="cpu", limits=limits)) as service:
        yield service


def conversation(service, *parts):
    """Send the parts, then nothing more; what came back when the server closed."""
    host, port = "127.0.0.1", int(service.url.rpartition(":")[2])
    with socket.create_connection((host, port), timeout=60) as raw:
        for part in parts:
            raw.sendall(part)
        received = b""
        while chunk := raw.recv(65536):
            received += chunk
    return received


@pytest.mark.parametrize("path", [b"/locate", b"/guarded"])
def test_headers_that_never_end_are_given_up_with_408(strict, path):
    received = conversation(strict, b"POST %s HTTP/1.1\r\nhost: x\r\nx-a: " % path)
    assert received.startswith(b"HTTP/1.1 408")
    assert b"did not arrive within" in received


@pytest.mark.parametrize("path", [b"/locate", b"/guarded", b"/info"])
def test_a_body_that_never_ends_is_given_up(strict, path):
    head = (
        b"POST %s HTTP/1.1\r\nhost: x\r\nauthorization: Bearer open sesame\r\ncontent-length: 9\r\n\r\n"
        % path
    )
    received = conversation(strict, head, b'{"x"')
    assert received.split(b" ", 2)[1] in (b"408", b"405")


def test_a_raised_http_exception_of_fastapi_keeps_its_headers(web_service):
    answer = httpx.post(f"{web_service.url}/locate", json={"x": -8})
    assert (answer.status_code, answer.json(), answer.headers["x-price"]) == (402, {"detail": "pay"}, "3")


def test_bad_json_is_400_with_the_reason(web_service):
    for path in ("/locate", "/slow"):
        answer = httpx.post(f"{web_service.url}{path}", content=b'{"x": 1,}')
        assert answer.status_code == 400
        assert "not valid JSON" in answer.json()["detail"]


def test_a_stream_says_that_it_is_one(web_service):
    answer = httpx.post(f"{web_service.url}/slow", json={})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"


def test_nothing_is_kept_of_answers():
    """Requests that were answered, failed, too large, cut off and refused leave nothing behind."""
    server = Server([Talker(spec=OpenAISpec("talker")), Locate()], accelerator="cpu")
    body = {"model": "talker", "messages": [{"role": "user", "content": "a b"}]}
    with TestClient(server.app, raise_server_exceptions=False) as client:
        for change in ({}, {"stream": True}, {"n": 3}, {"n": 0}, {"model": "other"}):
            client.post("/v1/chat/completions", json={**body, **change})
        broken = {**body, "messages": [{"role": "user", "content": "break"}]}
        client.post("/v1/chat/completions", json=broken)
        client.post("/locate", json={"x": -1})
        text = client.get("/metrics").text
    gauges = ("blixt_serve_in_flight{", "blixt_serve_queue_depth{")
    lines = [line for line in text.splitlines() if line.startswith(gauges)]
    assert len(lines) == 4
    assert {line.rpartition(" ")[2] for line in lines} == {"0"}


def test_the_count_of_active_requests_is_right_under_many_clients_at_once(web_service):
    def one(i):
        return httpx.post(f"{web_service.url}/locate", json={"x": i % 3 - 1}, timeout=60).status_code

    before = web_service.metric("blixt_serve_requests_total", api="/locate")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(one, range(60)))
    assert sorted(set(statuses)) == [200, 422]
    assert web_service.metric("blixt_serve_requests_total", api="/locate") == before + 60
    wait_until(lambda: web_service.metric("blixt_serve_in_flight") == 0, 60, "nothing in flight")
