"""Websockets, with the websockets package as client."""

import json
import socket

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from blixt.serve import Limits, Server
from blixt.serve.testing import running, wait_until

from .apis import Chat


def chat(service, path="/chat", **kwargs):
    return connect(f"{service.url.replace('http', 'ws')}{path}", open_timeout=60, **kwargs)


def until_in_flight(service, count):
    wait_until(lambda: service.metric("blixt_serve_in_flight") == count, 60, f"{count} in flight")


def closing(connection):
    """Code and reason of the server's close."""
    try:
        connection.recv(timeout=60)
    except ConnectionClosed as closed:
        return closed.rcvd.code, closed.rcvd.reason
    return None


def test_text_and_bytes_go_both_ways(web_service):
    with chat(web_service) as connection:
        connection.send("hello")
        assert connection.recv(timeout=60) == "you said hello"
        connection.send(b"\x00\x01\xff")
        assert connection.recv(timeout=60) == b"\xff\x01\x00"


def test_messages_keep_their_order_and_their_size(web_service):
    with chat(web_service) as connection:
        sent = [f"{i}" * (i * 30) for i in range(60)]
        for text in sent:
            connection.send(text)
        assert [connection.recv(timeout=60) for _ in sent] == [f"you said {text}" for text in sent]


def test_a_sync_session_yields_json(web_service):
    with chat(web_service, "/tick") as connection:
        connection.send("four")
        assert json.loads(connection.recv(timeout=60)) == {"length": 4}


def test_sessions_of_one_worker_live_side_by_side(web_service):
    with chat(web_service) as one, chat(web_service) as two, chat(web_service, "/tick") as three:
        for connection in (three, one, two):
            connection.send("hi")
        assert one.recv(timeout=60) == two.recv(timeout=60) == "you said hi"
        assert json.loads(three.recv(timeout=60)) == {"length": 2}


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        ("bye", 4321, "so long"),
        ("leave", 1000, ""),
        ("teapot", 4418, "short and stout"),
        ("break", 1011, "Internal Server Error"),
    ],
)
def test_a_session_ends_with_a_code_that_says_why(web_service, message, code, reason):
    with chat(web_service) as connection:
        connection.send(message)
        assert closing(connection) == (code, reason)


def test_the_first_subprotocol_that_both_speak_is_chosen(web_service):
    with chat(web_service, subprotocols=["v0.chat", "v1.chat"]) as connection:
        assert connection.subprotocol == "v1.chat"
    with chat(web_service) as connection:
        assert connection.subprotocol is None


def test_a_message_above_the_payload_limit_closes_with_1009(web_service):
    with chat(web_service) as connection:
        connection.send("x" * 150_000)
        assert closing(connection)[0] == 1009


def test_a_client_that_leaves_ends_its_session(web_service):
    until_in_flight(web_service, 0)
    with chat(web_service) as connection:
        connection.send("hi")
        connection.recv(timeout=60)
        assert web_service.metric("blixt_serve_in_flight") == 1
    until_in_flight(web_service, 0)


def test_a_client_that_is_cut_off_ends_its_session(web_service):
    until_in_flight(web_service, 0)
    with chat(web_service) as connection:
        connection.send("hi")
        connection.recv(timeout=60)
        connection.socket.shutdown(socket.SHUT_RDWR)
        until_in_flight(web_service, 0)


def test_a_slow_reader_holds_the_session_and_loses_nothing(web_service):
    with chat(web_service, max_queue=1) as connection:
        connection.send("flood")
        got = [connection.recv(timeout=60) for _ in range(2000)]
    assert [int(text.partition(":")[0]) for text in got] == list(range(2000))


def test_a_path_without_a_session_refuses_the_handshake(web_service):
    for path in ("/big", "/nowhere"):
        with pytest.raises(InvalidStatus) as refused:
            chat(web_service, path)
        assert refused.value.response.status_code in (403, 404)


def test_a_plain_request_to_a_session_is_told_so(web_service):
    assert httpx.get(f"{web_service.url}/chat").status_code in (404, 405, 426)
    assert httpx.post(f"{web_service.url}/chat", json=1).status_code in (404, 405, 426)


def test_authorize_guards_the_handshake(web_service):
    with pytest.raises(InvalidStatus) as refused:
        chat(web_service, "/guarded", additional_headers={"authorization": "Bearer open rice"})
    response = refused.value.response
    assert (response.status_code, response.headers["x-hint"]) == (403, "seeds")
    headers = {"authorization": "Bearer open sesame"}
    with chat(web_service, "/guarded", additional_headers=headers) as connection:
        assert connection.recv(timeout=60) == "welcome"


def test_a_worker_that_dies_closes_its_sessions_and_another_takes_over():
    with running(Server(Chat(), accelerator="cpu")) as service:
        with chat(service) as one, chat(service) as two:
            two.send("hi")
            two.recv(timeout=60)
            one.send("die")
            for connection in (one, two):
                code, reason = closing(connection)
                assert (code, "worker died" in reason) == (1013, True)
        with chat(service) as three:
            three.send("hi")
            assert three.recv(timeout=60) == "you said hi"


def test_a_server_that_stops_says_so_to_its_sessions():
    with running(Server(Chat(), accelerator="cpu", limits=Limits(drain_s=0.3))) as service:
        with chat(service) as connection:
            connection.send("hi")
            connection.recv(timeout=60)
            service.process.terminate()
            assert closing(connection)[0] in (1001, 1012)
        assert service.wait(60) == 0


def test_a_refused_session_is_told_when_to_come_back():
    server = Server(Chat(max_streams=1), accelerator="cpu", max_queue=1)
    with running(server) as service, chat(service) as first:
        first.send("hi")
        first.recv(timeout=60)
        with chat(service), pytest.raises(InvalidStatus) as refused:  # the second waits in the queue
            chat(service)
    assert refused.value.response.status_code == 429
    assert int(refused.value.response.headers["retry-after"]) >= 1


def test_pings_are_answered(web_service):
    with chat(web_service) as connection:
        assert connection.ping().wait(60)
