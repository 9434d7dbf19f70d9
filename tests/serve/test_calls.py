"""What a call between APIs has of the request that makes it: its time, its rank, its trace, and its end."""

import asyncio
import json
import socket
from functools import partial
from types import SimpleNamespace
from urllib.parse import urlsplit

import msgspec
import pytest

from blixt.serve import Server
from blixt.serve.calls import connect
from blixt.serve.request import Meta, Request, State
from blixt.serve.testing import running, wait_until
from blixt.serve.wire import Kind

from .worker_apis import Asker, AsyncAsker, BatchAsker, Lingerer

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def service():
    apis = [Asker(), AsyncAsker(), BatchAsker(), Lingerer()]
    with running(Server(apis, accelerator="cpu", timeout_s=600)) as running_service:
        yield running_service


def send(service, path, body, *headers):
    """A request whose answer is not waited for yet."""
    host, port = urlsplit(service.url).netloc.split(":")
    sock = socket.create_connection((host, int(port)), timeout=60)
    data = json.dumps(body).encode()
    head = [f"POST {path} HTTP/1.1", "host: x", "content-type: application/json", *headers]
    sock.sendall("\r\n".join([*head, f"content-length: {len(data)}", "", ""]).encode() + data)
    return sock


def until_noted(path, *lines):
    wait_until(lambda: path.exists() and path.read_text().splitlines() == list(lines), 60, str(lines))


@pytest.mark.parametrize("path", ["/asker", "/async-asker"])
def test_a_call_is_over_when_its_callers_time_is(service, tmp_path, path):
    notes = tmp_path / "notes"
    body = {"api": "Lingerer", "x": str(notes), "xs": [str(notes)]}
    for timeout_s in (1, 5, 25):  # a machine may be too busy to begin within the first
        with send(service, path, body, f"x-timeout-s: {timeout_s}", "x-request-id: r1") as sock:
            assert sock.recv(1000).startswith(b"HTTP/1.1 504 ")
        if notes.exists():
            break
    until_noted(notes, "begun r1", "left")


@pytest.mark.parametrize("path", ["/asker", "/async-asker"])
def test_a_call_ends_when_its_callers_client_leaves(service, tmp_path, path):
    notes = tmp_path / "notes"
    with send(service, path, {"api": "Lingerer", "x": str(notes), "xs": [str(notes)]}):
        until_noted(notes, "begun ")
    until_noted(notes, "begun ", "left")


def test_a_batchs_call_lives_as_long_as_one_of_its_clients_waits(service, tmp_path):
    notes = tmp_path / "notes"
    body = {"api": "Lingerer", "x": str(notes)}
    metric = partial(service.metric, api="/batch-asker")
    with send(service, "/batch-asker", body, "x-request-id: a") as first:
        wait_until(lambda: metric("blixt_serve_in_flight") == 1, 60, "the first request")
        with send(service, "/batch-asker", body, "x-request-id: b"):
            until_noted(notes, "begun a")
        wait_until(lambda: metric("blixt_serve_in_flight") == 1, 60, "one client to be missed")
        until_noted(notes, "begun a")
        first.shutdown(socket.SHUT_RDWR)
        until_noted(notes, "begun a", "left")


class Hub:
    """A hub that notes what is submitted."""

    def __init__(self):
        self.submitted = []
        self.cancelled = []

    def submit(self, body, sink, **said):
        self.submitted.append(SimpleNamespace(body=body, sink=sink, **said))
        return len(self.submitted)

    def cancel(self, ticket):
        self.cancelled.append(ticket)


class Link:
    """A worker's link with some requests in flight."""

    is_open = True

    def __init__(self, *requests):
        self.in_flight = {request.id: request for request in requests}
        self.told = []

    def send_control(self, id, kind, payload):
        self.told.append((id, kind, payload))


def make_request(id, ends_in_s=50.0, priority=0, state=State.SENT, **meta):
    packed = msgspec.json.encode(Meta(**meta)) if meta else None
    request = Request(id, b"", None, asyncio.get_running_loop().time(), priority, packed)
    request.deadline += ends_in_s
    request.state = state
    return request


def ask(link, ids, timeout_s=None, running_timeout=True):
    """What a worker's call comes to: the hub that was asked."""
    hub = Hub()
    plan = SimpleNamespace(name="Other", api=SimpleNamespace(api_path="/other"))
    connect([SimpleNamespace(hub=hub, plan=plan)], running_timeout)
    head = msgspec.json.encode(("Other", timeout_s, ids))
    hub.on_call(link, 7, len(head).to_bytes(4, "little") + head + b"\0value")
    return hub


async def test_a_call_has_its_most_patient_callers_time_the_highest_rank_and_the_first_ones_trace():
    link = Link(make_request(1, 10, -2, request_id="r", traceparent="t"), make_request(2, 40, 5))
    asked = ask(link, [1, 2]).submitted[0]
    assert 30 < asked.timeout_s <= 40
    assert asked.priority == 5
    assert msgspec.json.decode(asked.meta, type=Meta) == Meta(request_id="r", traceparent="t")
    assert (asked.kind, asked.body) == (Kind.VALUE, b"\0value")


@pytest.mark.parametrize(
    ("ends_in_s", "timeout_s", "running_timeout", "expected"),
    [(1000, 3, True, 3), (float("inf"), None, True, None), (10, None, False, None), (10, 3, False, 3)],
)
async def test_a_call_may_ask_for_less_time(ends_in_s, timeout_s, running_timeout, expected):
    hub = ask(Link(make_request(1, ends_in_s)), [1], timeout_s, running_timeout)
    assert hub.submitted[0].timeout_s == expected


async def test_a_call_in_nobodys_name_has_the_servers_time():
    asked = ask(Link(), [3]).submitted[0]  # its caller has been answered already
    assert (asked.timeout_s, asked.priority, asked.meta) == (None, 0, None)


@pytest.mark.parametrize(("request_state", "ends_in_s", "status"), [("ABANDONED", 9, 499), ("SENT", -1, 504)])
async def test_a_call_that_nobody_waits_for_is_refused(request_state, ends_in_s, status):
    link = Link(make_request(1, ends_in_s, state=State[request_state]))
    assert ask(link, [1]).submitted == []
    [(id, kind, payload)] = link.told
    assert (id, kind, payload[0]) == (7, Kind.RESULT, Kind.ERROR)
    assert msgspec.json.decode(payload[1:])["status"] == status


async def test_a_call_is_cancelled_with_the_last_of_its_callers_and_the_worker_is_told():
    first, second = make_request(1), make_request(2)
    link = Link(first, second)
    hub = ask(link, [1, 2])
    first.drop_calls()
    assert hub.cancelled == link.told == []
    second.drop_calls()
    assert hub.cancelled == [1]
    assert msgspec.json.decode(link.told[0][2][1:])["status"] == 499


async def test_a_call_that_is_answered_is_forgotten_by_its_callers():
    request = make_request(1)
    link = Link(request)
    hub = ask(link, [1])
    hub.submitted[0].sink.deliver(Kind.PACKED, b"\0answer")
    assert (request.calls, link.told) == ([], [(7, Kind.RESULT, bytes((Kind.PACKED,)) + b"\0answer")])
    request.drop_calls()
    assert hub.cancelled == []
