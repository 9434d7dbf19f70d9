import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt.cloud.gateway.errors import GatewayError
from blixt.cloud.gateway.framing import (
    LAST_CHUNK,
    ChunkedDecoder,
    Framing,
    Until,
    encode_chunk,
    request_framing,
    response_framing,
)
from blixt.cloud.gateway.heads import parse_request, parse_response
from blixt.cloud.gateway.limits import Limits

REQUESTS: list[tuple[str, bytes, Framing | int, bool]] = [
    ("nothing", b"", 0, True),
    ("a length", b"\r\nContent-Length: 12", 12, True),
    ("chunked", b"\r\nTransfer-Encoding: chunked", Until.CHUNKED, True),
    ("chunked, other case", b"\r\nTransfer-Encoding: Chunked", Until.CHUNKED, True),
    ("both", b"\r\nContent-Length: 3\r\nTransfer-Encoding: chunked", 400, False),
    ("length twice", b"\r\nContent-Length: 3\r\nContent-Length: 3", 400, False),
    ("lengths that differ", b"\r\nContent-Length: 3\r\nContent-Length: 4", 400, False),
    ("length list", b"\r\nContent-Length: 3, 3", 400, False),
    ("signed length", b"\r\nContent-Length: +3", 400, False),
    ("negative length", b"\r\nContent-Length: -3", 400, False),
    ("hex length", b"\r\nContent-Length: 0x3", 400, False),
    ("underscored length", b"\r\nContent-Length: 1_0", 400, False),
    ("empty length", b"\r\nContent-Length:", 400, False),
    ("huge length", b"\r\nContent-Length: " + b"9" * 30, 400, False),
    ("superscript length", b"\r\nContent-Length: \xb2", 400, False),
    ("gzip, chunked", b"\r\nTransfer-Encoding: gzip, chunked", 501, False),
    ("chunked twice", b"\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 501, False),
    ("chunked, identity", b"\r\nTransfer-Encoding: chunked, identity", 501, False),
    ("xchunked", b"\r\nTransfer-Encoding: xchunked", 501, False),
    ("quoted chunked", b'\r\nTransfer-Encoding: "chunked"', 501, False),
    ("empty coding", b"\r\nTransfer-Encoding:", 501, False),
]


@pytest.mark.parametrize(
    ("fields", "expected", "good"), [c[1:] for c in REQUESTS], ids=[c[0] for c in REQUESTS]
)
def test_the_end_of_a_request_is_told_in_one_way_or_refused(
    fields: bytes, expected: Framing | int, good: bool
) -> None:
    head = parse_request(b"POST / HTTP/1.1\r\nHost: x" + fields, Limits())
    if good:
        assert request_framing(head) == expected
    else:
        with pytest.raises(GatewayError) as refused:
            request_framing(head)
        assert refused.value.status == expected


def test_an_http_1_0_request_cannot_be_chunked() -> None:
    with pytest.raises(GatewayError):
        request_framing(parse_request(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked", Limits()))


RESPONSES: list[tuple[bytes, bytes, Framing | None]] = [
    (b"GET", b"200 OK\r\nContent-Length: 5", 5),
    (b"GET", b"200 OK\r\nTransfer-Encoding: chunked", Until.CHUNKED),
    (b"GET", b"200 OK", Until.CLOSED),
    (b"HEAD", b"200 OK\r\nContent-Length: 5", 0),
    (b"GET", b"204 No Content\r\nContent-Length: 5", 0),
    (b"GET", b"304 Not Modified\r\nContent-Length: 5", 0),
    (b"GET", b"200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", None),
    (b"GET", b"200 OK\r\nContent-Length: 5, 5", None),
    (b"GET", b"200 OK\r\nTransfer-Encoding: gzip", None),
]


@pytest.mark.parametrize(("method", "answer", "expected"), RESPONSES)
def test_the_end_of_a_response_is_told_in_one_way_or_refused(
    method: bytes, answer: bytes, expected: Framing | None
) -> None:
    head = parse_response(b"HTTP/1.1 " + answer)
    if expected is None:
        with pytest.raises(GatewayError):
            response_framing(head, method)
    else:
        assert response_framing(head, method) == expected


def _cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces: list[bytes] = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [piece for piece in [*pieces, data] if piece]


@given(
    st.lists(st.binary(min_size=1, max_size=300), max_size=8),
    st.lists(st.integers(1, 50), max_size=40),
    st.sampled_from([b"", b"GET / HTTP/1.1\r\n"]),
)
def test_chunks_decode_to_the_body_however_they_are_cut(
    pieces: list[bytes], cuts: list[int], behind: bytes
) -> None:
    wire = b"".join(encode_chunk(piece) for piece in pieces) + LAST_CHUNK + behind
    decoder = ChunkedDecoder()
    body = rest = b""
    for part in _cut(wire, cuts):
        if decoder.done:
            rest += part
        else:
            got, rest = decoder.feed(part)
            body += got
    assert decoder.done
    assert (body, rest) == (b"".join(pieces), behind)


@given(st.lists(st.binary(min_size=1, max_size=100), max_size=6))
def test_h11_reads_the_chunks_we_write(pieces: list[bytes]) -> None:
    wire = b"".join(encode_chunk(piece) for piece in pieces) + LAST_CHUNK
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + wire)
    assert isinstance(connection.next_event(), h11.Request)
    body = b""
    while isinstance(event := connection.next_event(), h11.Data):
        body += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage)
    assert body == b"".join(pieces)


@pytest.mark.parametrize(
    "wire",
    [
        b"g\r\n",
        b"\r\n",
        b"-1\r\n",
        b"+3\r\nabc\r\n",
        b"0x3\r\nabc\r\n",
        b" 3\r\nabc\r\n",
        b"3\nabc\r\n",
        b"3\r\nabcd\r\n",
        b"3\r\nabc\n0\r\n\r\n",
        b"3\r\nabc\r0",
        b"1" * 16 + b"\r\n",
        b"3;" + b"x" * 5000,
        b"0\r\n" + b"Trailer: x\r\n" * 1000,
        b"3;a\rb\r\nabc\r\n",
    ],
)
def test_broken_chunks_are_refused(wire: bytes) -> None:
    with pytest.raises(ValueError, match=r"chunk|trailers|line"):
        ChunkedDecoder().feed(wire)


def test_extensions_and_trailers_are_dropped() -> None:
    decoder = ChunkedDecoder()
    assert decoder.feed(b'3;name="v"\r\nabc\r\n0;x\r\nTrailer: 1\r\n\r\nnext') == (b"abc", b"next")
    assert decoder.done
