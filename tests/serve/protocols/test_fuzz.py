"""Whatever a client sends, it gets a 4xx with a sentence or is cut off; never a 500, never silence."""

import base64
import contextlib
import json
import os
import select
import socket
import struct

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blixt.serve.testing import wait_until

FEW = settings(
    max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
)
GOOD = b'POST /locate HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\n\r\n{"x": 1}'
PATIENCE_S = 60


@pytest.fixture(scope="module")
def http():
    """One client: a fresh one for each request would cost more than the server does."""
    with httpx.Client(timeout=PATIENCE_S) as client:
        yield client


def address(service):
    return "127.0.0.1", int(service.url.rpartition(":")[2])


def exchange(service, data, *, half_close=True):
    """Send bytes as they are; all that comes back until the server closes (after us, if we half-close)."""
    with contextlib.closing(socket.create_connection(address(service), timeout=PATIENCE_S)) as raw:
        with contextlib.suppress(ConnectionError):
            raw.sendall(data)
            if half_close:
                raw.shutdown(socket.SHUT_WR)
        received = b""
        with contextlib.suppress(ConnectionError):
            while chunk := raw.recv(65536):
                received += chunk
        return received


def statuses(received):
    """The status of every answer among the bytes; bodies hold no such line."""
    return [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]


def still_serves(service):
    assert httpx.post(f"{service.url}/locate", json={"x": 4}, timeout=PATIENCE_S).json() == {"distance": 4}


def is_refused(received):
    """No answer at all, or a 4xx with a sentence."""
    for status in statuses(received):
        assert status in range(400, 500) or status == 200, received[:300]


@FEW
@given(data=st.binary(max_size=400))
def test_noise_in_place_of_http_is_refused(web_service, data):
    is_refused(exchange(web_service, data))


@FEW
@given(data=st.data())
def test_a_request_with_any_bytes_changed_is_answered_or_refused(web_service, data):
    request = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        request[data.draw(st.integers(0, len(request) - 1))] = data.draw(st.integers(0, 255))
    is_refused(exchange(web_service, bytes(request)))


@FEW
@given(cut=st.integers(0, len(GOOD) - 1))
def test_a_request_cut_anywhere_is_never_begun(web_service, cut):
    received = exchange(web_service, GOOD[:cut])
    assert 200 not in statuses(received)


SMUGGLED = {
    "two lengths": b"content-length: 8\r\ncontent-length: 9\r\n\r\n{}",
    "a length and chunks": b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a length with a sign": b"content-length: +2\r\n\r\n{}",
    "a length below zero": b"content-length: -2\r\n\r\n{}",
    "a length of letters": b"content-length: two\r\n\r\n{}",
    "a length in hex": b"content-length: 0x2\r\n\r\n{}",
    "two lengths in one": b"content-length: 2, 2\r\n\r\n{}",
    "a length too long": b"content-length: 99999999999999999999\r\n\r\n{}",
    "an unknown coding": b"transfer-encoding: rot13\r\n\r\n{}",
    "chunked, but not last": b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a chunk size of letters": b"transfer-encoding: chunked\r\n\r\nxyz\r\n{}\r\n0\r\n\r\n",
    "a chunk shorter than said": b"transfer-encoding: chunked\r\n\r\n5\r\n{}\r\n0\r\n\r\n",
    "a folded header": b"x-a: 1\r\n 2\r\ncontent-length: 2\r\n\r\n{}",
    "a blank before the colon": b"content-length : 2\r\n\r\n{}",
    "a bare line feed in a value": b"x-a: 1\n2\r\ncontent-length: 2\r\n\r\n{}",
    "a zero byte in a value": b"x-a: 1\x002\r\ncontent-length: 2\r\n\r\n{}",
    "a name with a blank": b"x a: 1\r\ncontent-length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("path", ["/locate", "/guarded"])
@pytest.mark.parametrize("shape", SMUGGLED)
def test_a_request_of_two_meanings_is_refused_and_ends_the_connection(web_service, shape, path):
    evil = b"POST %s HTTP/1.1\r\nhost: x\r\n%s" % (path.encode(), SMUGGLED[shape])
    received = exchange(web_service, evil + GOOD)
    seen = statuses(received)
    assert 200 not in seen, received
    assert len(seen) <= 1 or path == "/guarded", received
    assert all(400 <= status < 500 for status in seen), received


def test_headers_of_a_users_error_cannot_split_the_answer(web_service):
    answer = httpx.post(f"{web_service.url}/locate", json={"x": -7}, timeout=PATIENCE_S)
    assert answer.status_code == 422
    assert answer.headers["x-said"] == "ax-evil: 1"
    assert "x-evil" not in answer.headers


def test_huge_headers_are_431_and_many_are_too(web_service):
    huge = b"POST /locate HTTP/1.1\r\nhost: x\r\nx-big: " + b"a" * 200_000 + b"\r\n\r\n"
    many = b"POST /locate HTTP/1.1\r\nhost: x\r\n" + b"x-a: 1\r\n" * 20_000 + b"\r\n"
    long_path = b"POST /" + b"a" * 200_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n"
    for request in (huge, many, long_path):
        received = exchange(web_service, request, half_close=False)
        assert statuses(received) in ([431], [414], []), received[:200]  # [] if we were cut off while sending
    still_serves(web_service)


ODD_PATHS = {
    "/nowhere": 404,
    "/locate/": 404,
    "/LOCATE": 404,
    "/%6cocate": 422,
    "/..%2flocate": 404,
    "//": 404,
}


@pytest.mark.parametrize("path", ODD_PATHS)
def test_odd_paths_are_404_or_what_they_mean(web_service, path):
    head = b"POST %s HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n"
    received = exchange(web_service, head % path.encode() + b"{}", half_close=False)
    assert statuses(received) == [ODD_PATHS[path]]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"])
def test_other_methods_are_405_and_the_right_one_is_told(web_service, method):
    answer = httpx.request(method, f"{web_service.url}/locate", timeout=PATIENCE_S)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_pipelined_requests_are_answered_in_their_order(web_service):
    requests = b"".join(GOOD.replace(b'"x": 1', b'"x": %d' % i) for i in range(10))
    last = requests.replace(b"host: x", b"host: x\r\nconnection: keep-alive", 9).rpartition(b"POST")
    requests = last[0] + b"POST" + last[2].replace(b"host: x", b"host: x\r\nconnection: close")
    received = exchange(web_service, requests, half_close=False)
    bodies = [json.loads(part.rpartition(b"\r\n\r\n")[2]) for part in received.split(b"HTTP/1.1 ")[1:]]
    assert bodies == [{"distance": i} for i in range(10)]


def test_a_chunked_body_is_a_body(web_service):
    request = b"POST /locate HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks = b'4\r\n{"x"\r\n4\r\n: 7}\r\n0\r\n\r\n'
    received = exchange(web_service, request + chunks, half_close=False)
    assert received.endswith(b'{"distance":7}')


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@FEW
@given(value=json_values)
def test_any_json_is_200_400_or_422(web_service, http, value):
    body = json.dumps(value).encode()
    for path in ("/locate", "/count", "/rot13"):
        answer = http.post(f"{web_service.url}{path}", content=body)
        assert answer.status_code in (200, 400, 409, 422), answer.text
        if answer.status_code >= 400:
            assert answer.json()["detail"]


OPENAI = {
    "chat/completions": {"model": "talker", "messages": [{"role": "user", "content": "a"}]},
    "completions": {"model": "talker", "prompt": "a"},
    "responses": {"model": "talker", "input": "a"},
    "embeddings": {"model": "lengths", "input": "a"},
}


@FEW
@given(value=json_values, path=st.sampled_from(list(OPENAI)))
def test_any_json_value_anywhere_in_an_openai_request_is_answered_or_400(openai_service, http, value, path):
    fields = ("messages", "prompt", "input", "stream", "n", "tools", "stop", "logprobs", "text", "dimensions")
    for field in fields:
        body = json.dumps({**OPENAI[path], field: value}).encode()
        answer = http.post(f"{openai_service.url}/v1/{path}", content=body)
        assert answer.status_code in (200, 400), (field, answer.text)
        if answer.status_code == 400:
            assert answer.json()["error"]["message"]


def test_json_that_is_too_deep_is_refused(web_service):
    answer = httpx.post(f"{web_service.url}/guarded", content=b"[" * 90_000, timeout=PATIENCE_S)
    assert answer.status_code in (401, 403)
    authorized = {"authorization": "Bearer open sesame"}
    answer = httpx.post(
        f"{web_service.url}/guarded", content=b"[" * 90_000, headers=authorized, timeout=PATIENCE_S
    )
    assert answer.status_code == 400
    still_serves(web_service)


@FEW
@given(body=st.binary(max_size=300), boundary=st.sampled_from(["x", "", '"', "x" * 300]))
def test_any_multipart_body_is_400_or_422(web_service, http, body, boundary):
    headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
    for content in (body, b"--x\r\n" + body + b"\r\n--x--\r\n"):
        answer = http.post(f"{web_service.url}/locate", content=content, headers=headers)
        assert answer.status_code in (400, 415, 422), answer.text
        assert answer.json()["detail"]


def handshake(path="/chat", key=None, extra=b""):
    key = key or base64.b64encode(os.urandom(16))
    return (
        b"GET %s HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: %s\r\n%s\r\n" % (path.encode(), key, extra)
    )


@FEW
@given(data=st.binary(min_size=1, max_size=200))
def test_noise_after_a_websocket_handshake_closes_it(web_service, data):
    received = exchange(web_service, handshake() + data)
    assert received.startswith(b"HTTP/1.1 101")
    wait_until(lambda: web_service.metric("blixt_serve_in_flight", api="/chat") == 0, 60, "the session's end")


def frame(opcode, payload, *, masked=True, fin=True, length=None):
    head = bytes([(0x80 if fin else 0) | opcode])
    size = len(payload) if length is None else length
    mask = 0x80 if masked else 0
    if size < 126:
        head += bytes([mask | size])
    elif size < 65536:
        head += bytes([mask | 126]) + struct.pack(">H", size)
    else:
        head += bytes([mask | 127]) + struct.pack(">Q", size)
    return head + (b"\0\0\0\0" if masked else b"") + payload


BROKEN_FRAMES = {
    "unmasked": (frame(1, b"hi", masked=False), 1002),
    "unknown opcode": (frame(3, b"hi"), 1002),
    "not UTF-8": (frame(1, b"\xff\xfe"), 1007),
    "continues nothing": (frame(0, b"hi"), 1002),
    "long ping": (frame(9, b"x" * 126), 1002),
    "huge": (frame(1, b"", length=2**40), 1009),
    "close of one byte": (frame(8, b"\x00"), 1002),
    "reserved bits": (bytes([0xF1, 0x80, 0, 0, 0, 0]), 1002),
}


@pytest.mark.parametrize("name", BROKEN_FRAMES)
def test_a_broken_frame_is_told_so_with_the_right_code(web_service, name):
    data, code = BROKEN_FRAMES[name]
    with contextlib.closing(socket.create_connection(address(web_service), timeout=PATIENCE_S)) as raw:
        raw.sendall(handshake())
        received = b""
        while not received.endswith(b"\r\n\r\n"):
            received += raw.recv(1)
        assert received.startswith(b"HTTP/1.1 101")
        raw.sendall(data)
        closing = raw.recv(1000)
    assert closing[0] == 0x88
    assert struct.unpack(">H", closing[2:4])[0] == code


@pytest.mark.parametrize("key", [b"short", b"", b"not base64 at all!!!!!!!"])
def test_a_handshake_without_a_real_key_is_400(web_service, key):
    received = exchange(web_service, handshake(key=key or b" "))
    assert statuses(received)[0] in range(400, 500)


def test_half_a_request_does_not_hold_up_others(web_service):
    with contextlib.ExitStack() as stack:
        halves = [socket.create_connection(address(web_service)) for _ in range(50)]
        for raw in halves:
            stack.enter_context(contextlib.closing(raw))
            raw.sendall(GOOD[: len(GOOD) // 2])
        still_serves(web_service)
        assert select.select(halves, [], [], 0)[0] == []  # answered before any of them was given up
