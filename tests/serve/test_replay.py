"""The same bytes through the hot and the cold lane: equal answers, never a 500, never a silent connection."""

import gzip
import json
import socket

import httpx
import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, example, given, settings

from blixt.serve.http.hot_known import MAX_HEADS, KnownHeads
from blixt.serve.testing import running

from .replay_rig import KEY, answers, converse, exchange, server

LAST = (
    b"POST /typed HTTP/1.1\r\nhost: a\r\nx-api-key: s3cret\r\ncontent-length: 7\r\nconnection: close\r\n\r\n"
    b'{"x":1}'
)


@pytest.fixture(scope="module")
def ports():
    with running(server(hot=True)) as hot, running(server(hot=False)) as cold:
        headers = {"x-api-key": KEY}
        assert {a["lane"] for a in httpx.get(f"{hot.url}/info", headers=headers).json()["apis"]} == {"hot"}
        assert {a["lane"] for a in httpx.get(f"{cold.url}/info", headers=headers).json()["apis"]} == {"cold"}
        yield [int(service.url.rsplit(":", 1)[1]) for service in (hot, cold)]


# -- requests as bytes ---------------------------------------------------------------------------------------

methods = st.sampled_from([b"POST"] * 8 + [b"GET", b"HEAD", b"PUT", b"OPTIONS", b"DELETE", b"BREW", b"post"])
paths = st.sampled_from(
    [b"/predict", b"/typed", b"/raw", b"/count"] * 4
    + [b"/predict?a=1&b=2", b"/typed?", b"/nope", b"/health", b"/predict/", b"/%70redict", b"//predict"]
    + [b"*", b"http://a/predict", b"/typed#x", b"predict", b""]
)
bodies = st.one_of(
    st.sampled_from(
        [
            *(
                b'{"x": 1}',
                b'{"x": "one"}',
                b'{"x": 1, "tags": ["a"]}',
                b"",
                b"{",
                b"[1, 2]",
                b"null",
                b"\xff",
            ),
            *(
                b'"teapot"',
                b'"long"',
                b'"bytes"',
                b"0",
                b"3",
                b"9",
                b"13",
                b'"3"',
                b"[" * 2000,
                b"1e999",
                b"NaN",
            ),
        ]
    ),
    st.binary(max_size=60),
    st.integers(60_000, 110_000).map(lambda n: b"[" + b"1," * (n // 2) + b"1]"),
)
headers = st.lists(
    st.sampled_from(
        [
            b"content-type: application/json",
            b"content-type: application/octet-stream",
            b"content-type: text/plain",
            b"accept-encoding: gzip",
            b"Accept-Encoding: br;q=1, gzip;q=0",
            b"X-Request-Id: abc-1",
            b"x-request-id: not ok!",
            b"x-priority: 3",
            b"x-priority: high",
            b"x-timeout-s: 15",
            b"x-timeout-s: -1",
            b"expect: 100-continue",
            b"expect: nothing",
            b"connection: close",
            b"connection: keep-alive",
            b"upgrade: h2c",
            b"accept: text/event-stream",
            b"cookie: " + b"c" * 3000,
            b"x-empty:",
        ]
    ),
    max_size=3,
)
keys = st.sampled_from(
    [b"x-api-key: s3cret"] * 9 + [b"Authorization: Bearer s3cret", b"x-api-key: no", b"a: b"]
)


@st.composite
def requests(draw):
    """One request's bytes, mostly right, sometimes wrong in one way."""
    body = draw(bodies)
    lines = [
        b" ".join((draw(methods), draw(paths), draw(st.sampled_from([b"HTTP/1.1"] * 9 + [b"HTTP/1.0"]))))
    ]
    lines += [b"host: a", draw(keys), *draw(headers)]
    match draw(st.sampled_from(["length"] * 5 + ["chunked"] * 3 + ["none", "wrong", "both"])):
        case "length":
            lines.append(b"content-length: %d" % len(body))
        case "chunked":
            lines.append(b"transfer-encoding: chunked")
            size = draw(st.integers(1, 40_000))
            body = b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in pieces_of(body, size)) + b"0\r\n\r\n"
        case "none":
            body = b""
        case "wrong":
            lines.append(
                b"content-length: " + draw(st.sampled_from([b"5", b"99", b"200000", b"x", b"-1", b"1 2"]))
            )
        case _:
            lines += [b"transfer-encoding: chunked", b"content-length: 5"]
    return b"\r\n".join([*lines, b"", b""]) + body


def pieces_of(data, size):
    return [data[start : start + size] for start in range(0, len(data), size)]


@st.composite
def conversations(draw):
    """Pipelined requests, cut anywhere, sometimes with a byte changed, and a last one that says goodbye."""
    data = b"".join(draw(st.lists(requests(), min_size=1, max_size=4))) + LAST
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, min(len(data) - 1, 400)))
        data = data[:at] + draw(st.binary(min_size=1, max_size=3)) + data[at + 1 :]
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=4)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]


def heard(ports, conversation):
    """What both lanes answer.

    A machine that stands still while the pieces are sent makes one of them give up, and the other not: that
    is a 408, or fewer answers. Then both are asked again; what they do to the bytes is the same every time.
    """
    for _ in range(5):
        lanes = [exchange(port, conversation) for port in ports]
        given_up = [any(b" 408 " in answer.line for answer in lane) for lane in lanes]
        if given_up[0] == given_up[1] and len(lanes[0]) == len(lanes[1]):
            break
    return lanes


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
@given(conversation=conversations())
@example(conversation=[LAST])
@example(conversation=[b"\x00" * 10])
@example(conversation=[b"GET / HTTP/1.1\r\n" + b"a: " + b"b" * 70_000 + b"\r\n\r\n"])
@example(conversation=[LAST.replace(b"connection: close\r\n", b"") * 300 + LAST])
def test_both_lanes_give_the_same_answers_to_the_same_bytes(ports, conversation):
    hot, cold = heard(ports, conversation)
    assert hot == cold
    assert not [answer for answer in hot if b" 500 " in answer.line]


# -- what the answers are, in the hot lane -------------------------------------------------------------------


def post(path, body, *lines):
    head = [b"POST %b HTTP/1.1" % path, b"host: a", b"x-api-key: s3cret", *lines]
    return b"\r\n".join([*head, b"content-length: %d" % len(body), b"", b""]) + body


def one(ports, data, lane=0):
    (answer, *_) = exchange(ports[lane], [data])
    return answer


@pytest.mark.parametrize("lane", [0, 1])
def test_a_long_answer_is_gzipped_for_those_who_accept_it(ports, lane):
    answer = one(ports, post(b"/predict", b'"long"', b"accept-encoding: gzip", b"connection: close"), lane)
    assert b"content-encoding: gzip" in answer.headers
    assert json.loads(gzip.decompress(answer.body)) == "many words " * 200


FORM = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n4\r\n--b--\r\n'


@pytest.mark.parametrize(
    ("body", "boundary", "status"),
    [(FORM, b"b", 200), (FORM[:-9], b"b", 400), (FORM, b"other", 400), (FORM, b"", 400), (b"", b"b", 400)],
)
def test_a_form_whole_or_broken_is_answered_alike_by_both_lanes(ports, body, boundary, status):
    media = b"content-type: multipart/form-data; boundary=" + boundary
    conversation = [post(b"/typed", body, media) + LAST]
    hot, cold = heard(ports, conversation)
    assert hot == cold
    assert [int(answer.line[9:12]) for answer in hot] == [status, 200]


@pytest.mark.parametrize("lane", [0, 1])
def test_the_clients_request_id_comes_back(ports, lane):
    answer = one(ports, post(b"/typed", b'{"x": 1}', b"x-request-id: a-1", b"connection: close"), lane)
    assert b"x-request-id: a-1" in answer.headers


@pytest.mark.parametrize("lane", [0, 1])
def test_a_body_that_grows_too_large_is_413_and_the_connection_ends(ports, lane):
    head = b"POST /raw HTTP/1.1\r\nhost: a\r\nx-api-key: s3cret\r\ntransfer-encoding: chunked\r\n\r\n"
    chunk = b"8000\r\n" + bytes(0x8000) + b"\r\n"
    (answer,) = exchange(ports[lane], [head, *[chunk] * 4])
    assert answer.line.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer.headers


@pytest.mark.parametrize("lane", [0, 1])
def test_headers_above_the_limit_are_431(ports, lane):
    request = (
        b"POST /typed HTTP/1.1\r\n" + b"".join(b"h%d: %b\r\n" % (i, b"v" * 1000) for i in range(80)) + b"\r\n"
    )
    (answer,) = exchange(ports[lane], [request[:30_000], request[30_000:]])
    assert answer.line.startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize("lane", [0, 1])
@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"POST /typed HTTP/1.1\r\nhost: a\r\n", b"headers did not arrive within 0.8 s"),
        (post(b"/typed", b'{"x": 1}')[:-3], b"body stopped for 0.8 s"),
        (post(b"/raw", bytes(90_000))[:-3], b"body stopped for 0.8 s"),
    ],
)
def test_a_request_that_trickles_is_408(ports, lane, data, sentence):
    (answer,) = exchange(ports[lane], [data])
    assert answer.line.startswith(b"HTTP/1.1 408")
    assert sentence in answer.body


@pytest.mark.parametrize("lane", [0, 1])
def test_pipelined_requests_are_answered_in_order_before_garbage_is_refused(ports, lane):
    data = post(b"/typed", b'{"x": 1}') + post(b"/typed", b'{"x": 2}') + b"garbage\r\n\r\n"
    bodies = [answer.body for answer in exchange(ports[lane], [data])]
    assert bodies[:2] == [b'{"double":2,"tags":[]}', b'{"double":4,"tags":[]}']
    assert b"not valid HTTP" in bodies[2]


@pytest.mark.parametrize("lane", [0, 1])
def test_a_client_that_asks_first_is_told_to_continue(ports, lane):
    data = post(b"/typed", b'{"x": 1}', b"expect: 100-continue", b"connection: close")
    answers = exchange(ports[lane], [data[:-8], data[-8:]])
    assert [answer.line[9:12] for answer in answers] == [b"100", b"200"]


@pytest.mark.parametrize("size", [64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, 99_999])
def test_bodies_around_the_slabs_threshold_arrive_whole(ports, size):
    body = bytes(i % 251 for i in range(size))
    data = post(b"/raw", body) + post(b"/raw", body[:10], b"connection: close")
    cut = len(data) // 3
    large, small = exchange(ports[0], [data[:cut], data[cut : 2 * cut], data[2 * cut :]])
    assert json.loads(large.body) == {"length": size, "sum": sum(body)}
    assert json.loads(small.body) == {"length": 10, "sum": sum(body[:10])}


# -- refused without their body ------------------------------------------------------------------------------

REFUSED = [
    (b"POST /typed HTTP/1.1\r\nhost: a\r\nx-api-key: no", b" 401 "),
    (b"PUT /typed HTTP/1.1\r\nhost: a\r\nx-api-key: s3cret", b" 405 "),
    (b"POST /nope HTTP/1.1\r\nhost: a\r\nx-api-key: s3cret", b" 404 "),
]
CHUNKED = b"\r\ntransfer-encoding: chunked\r\n\r\n"


def after_the_answer(port, head, rest):
    """What comes on a connection on which the rest of a request is sent after its answer."""
    with socket.create_connection(("127.0.0.1", port), 60) as sock:
        sock.sendall(head)
        received = sock.recv(1 << 16)
        sock.sendall(rest)
        while data := sock.recv(1 << 16):
            received += data
    return list(answers(received))


@pytest.mark.parametrize("lane", [0, 1])
@pytest.mark.parametrize(("request_head", "status"), REFUSED)
def test_a_refusal_without_the_body_stands_alone_however_a_broken_body_comes(
    ports, lane, request_head, status
):
    head, port = request_head + CHUNKED, ports[lane]
    heard = [
        *(exchange(port, pieces) for pieces in ([head + b"zz\r\n"], [head, b"zz\r\n"])),
        exchange(port, [head + b"5\r\nwhole\r\n", b"zz\r\n"]),
        after_the_answer(port, head, b"zz\r\n"),
        exchange(port, [head]),  # and if nothing more comes
    ]
    assert [len(found) for found in heard] == [1] * 5
    assert {found[0] for found in heard} == {heard[0][0]}
    assert status in heard[0][0].line


@pytest.mark.parametrize("lane", [0, 1])
@pytest.mark.parametrize(("request_head", "status"), REFUSED)
def test_a_refusal_leaves_the_connection_to_those_whose_body_is_whole(ports, lane, request_head, status):
    heard = exchange(ports[lane], [request_head + CHUNKED, b"2\r\n{}\r\n0\r\n\r\n", LAST])
    assert status in heard[0].line
    assert heard[1].body == b'{"double":2,"tags":[]}'


@pytest.mark.parametrize("lane", [0, 1])
def test_a_broken_body_that_is_asked_for_is_400_in_its_turn(ports, lane):
    head = b"POST /typed HTTP/1.1\r\nhost: a\r\nx-api-key: s3cret" + CHUNKED
    first = post(b"/typed", b'{"x": 4}')
    for pieces in ([head + b"zz\r\n"], [head, b"zz\r\n"], [head + b"5\r\nwhole\r\n", b"zz\r\n"]):
        for heard in (
            exchange(ports[lane], pieces),
            exchange(ports[lane], [first + pieces[0], *pieces[1:]])[1:],
        ):
            assert [answer.line[9:12] for answer in heard] == [b"400"]
            assert b"not valid HTTP" in heard[0].body
    refused = exchange(ports[lane], [first + REFUSED[0][0] + CHUNKED + b"zz\r\n"])
    assert [answer.line[9:12] for answer in refused] == [b"200", b"401"]


# -- heads that come again -----------------------------------------------------------------------------------


def test_requests_whose_head_is_known_get_the_same_answers(ports):
    same = [[post(b"/typed", b'{"x": %d}' % x)] for x in range(1, 7)]
    wrong = [[post(b"/typed", body)] for body in (b'{"x": ""', b'{"y": 1}', b"\x00" * 8)]
    long = [[post(b"/raw", bytes([n]) * 40_000)] for n in range(4)]
    cut = [[data[:20], data[20:]] for (data,) in same[:2]] + [[data[:-3], data[-3:]] for (data,) in same[:2]]
    strange = [
        [b"\r\n" + same[0][0]],
        [same[0][0].replace(b"s3cret", b"secret")],
        [post(b"/typed?a=1", b"{}")],
    ]
    turns = [*same, *wrong, *same, *cut, *same[:2], *strange, *same, *long, *same[:1]]
    hot, cold = (converse(port, turns) for port in ports)
    assert hot == cold
    assert [answer.body for answer in hot[:6]] == [b'{"double":%d,"tags":[]}' % (2 * x) for x in range(1, 7)]
    assert json.loads(hot[-2].body) == {"length": 40_000, "sum": 120_000}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    turns=st.lists(
        st.tuples(
            st.sampled_from([b"/typed", b"/predict", b"/nope"]), st.sampled_from([b"1", b"{}", b'{"x": 1}'])
        ),
        min_size=20,
        max_size=40,
    ),
    key=st.sampled_from([b"s3cret", b"s3cret", b"no"]),
)
def test_both_lanes_give_the_same_answers_to_heads_that_come_again(ports, turns, key):
    requests = [[post(path, body).replace(b"s3cret", key)] for path, body in turns]
    hot, cold = (converse(port, requests) for port in ports)
    assert hot == cold


def test_heads_are_known_from_the_second_time_and_only_so_many():
    heads, known = KnownHeads(), object()
    heads.learn(b"a", known)
    assert heads.find(b"a") is None
    heads.learn(b"a", known)
    assert heads.find(b"a") is known
    for n in range(10 * MAX_HEADS):
        heads.learn(b"%d" % n, known)
        assert len(heads) <= MAX_HEADS
