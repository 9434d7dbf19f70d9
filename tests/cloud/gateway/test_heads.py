import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt.cloud.gateway.errors import BadUpstream, GatewayError
from blixt.cloud.gateway.heads import parse_request, parse_response
from blixt.cloud.gateway.limits import Limits

REFUSED = [
    ("obs-fold", b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c", 400),
    ("space before the colon", b"GET / HTTP/1.1\r\nHost : x", 400),
    ("tab before the colon", b"GET / HTTP/1.1\r\nContent-Length\t: 5", 400),
    ("no colon", b"GET / HTTP/1.1\r\nHost", 400),
    ("empty name", b"GET / HTTP/1.1\r\n: x", 400),
    ("bare LF in headers", b"GET / HTTP/1.1\r\nHost: x\nEvil: y", 400),
    ("bare CR in a value", b"GET / HTTP/1.1\r\nHost: x\rEvil: y", 400),
    ("NUL in a value", b"GET / HTTP/1.1\r\nHost: x\0y", 400),
    ("control byte in a name", b"GET / HTTP/1.1\r\nHo\x01st: x", 400),
    ("non-ASCII name", b"GET / HTTP/1.1\r\nH\xf6st: x", 400),
    ("two spaces in the first line", b"GET  / HTTP/1.1\r\nHost: x", 400),
    ("no version", b"GET /\r\nHost: x", 400),
    ("space in the target", b"GET /a b HTTP/1.1\r\nHost: x", 400),
    ("non-ASCII target", b"GET /\xc3\xa9 HTTP/1.1\r\nHost: x", 400),
    ("method that is no token", b"G@T / HTTP/1.1\r\nHost: x", 400),
    ("HTTP/2 preface", b"PRI * HTTP/2.0", 505),
    ("HTTP/1.2", b"GET / HTTP/1.2\r\nHost: x", 505),
    ("too many headers", b"GET / HTTP/1.1" + b"\r\nA: b" * 129, 431),
    ("target too long", b"GET /" + b"a" * 20_000 + b" HTTP/1.1", 414),
]


@pytest.mark.parametrize(
    ("head", "status"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_a_request_head_that_can_be_read_in_two_ways_is_refused(head: bytes, status: int) -> None:
    with pytest.raises(GatewayError) as refused:
        parse_request(head, Limits())
    assert refused.value.status == status


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/2 200 OK",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"ICY 200 OK",
        b"HTTP/1.1 200 OK\r\nA : b",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c",
    ],
)
def test_a_response_head_that_can_be_read_in_two_ways_is_refused(head: bytes) -> None:
    with pytest.raises(BadUpstream):
        parse_response(head)


def test_repeated_headers_stay_apart_and_are_joined_in_the_index() -> None:
    head = parse_request(b"GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\na: 2\r\nCookie: p=1\r\nCookie: q=2", Limits())
    assert [pair for pair in head.headers if pair[0] == b"a"] == [(b"a", b"1"), (b"a", b"2")]
    assert head.index[b"a"] == b"1, 2"
    assert head.index[b"cookie"] == b"p=1; q=2"


class _Reading:
    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.strip(b" \t")))


_SHARDS = [b"GET", b"POST", b" ", b"/", b"/a", b"HTTP/1.1", b"\r\n", b"\n", b"\r", b":", b": ", b"Host", b"x"]
_SHARDS += [
    b"A",
    b"\t",
    b"\0",
    b"\x7f",
    b"\xff",
    b",",
    b"Content-Length",
    b"3",
    b"chunked",
    b"Transfer-Encoding",
]


@given(st.lists(st.sampled_from(_SHARDS), max_size=14).map(b"".join))
def test_llhttp_reads_whatever_we_accept_in_the_same_way(tail: bytes) -> None:
    raw = b"GET / HTTP/1.1\r\nHost: x\r\n" + tail
    try:
        head = parse_request(raw, Limits())
    except GatewayError:
        return
    if {b"content-length", b"transfer-encoding", b"upgrade"} & head.index.keys():
        return  # framing is judged by test_framing
    reading = _Reading()
    httptools.HttpRequestParser(reading).feed_data(raw + b"\r\n\r\n")
    assert reading.target == head.target
    assert reading.headers == head.headers
