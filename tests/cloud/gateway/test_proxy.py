"""Plain HTTP through the gateway to the API, seen by other people's parsers on both sides."""

import asyncio

import h11
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .rig import OK, Recorder, Rig, eventually, rigged, status

pytestmark = pytest.mark.anyio
GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_a_connection_serves_many_requests_and_one_upstream_connection_serves_them(rig: Rig) -> None:
    client = await rig.connect()
    for _ in range(3):
        await client.send(GET)
        assert status(await client.head()) == 200
        assert await client.exactly(2) == b"ok"
    assert [seen.target for seen in rig.api.seen] == ["/a"] * 3
    assert rig.servers[0].accepted == 1


async def test_pipelined_requests_are_answered_in_order() -> None:
    def reply(seen: object) -> bytes:
        target = seen.target.encode()  # type: ignore[attr-defined]
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(target), target)

    async with rigged(Recorder(reply)) as rig:
        client = await rig.connect()
        await client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(50)))
        for n in range(50):
            await client.head()
            assert await client.exactly(len(b"/%d" % n)) == b"/%d" % n


async def test_a_pipelined_request_behind_a_body_is_not_part_of_it(rig: Rig) -> None:
    post = b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    post += b"3\r\nabc\r\n0\r\nTrailer: x\r\n\r\n"
    client = await rig.connect()
    await client.send(post + GET)
    await client.head()
    await client.exactly(2)
    await client.head()
    assert [(seen.method, seen.body) for seen in rig.api.seen] == [("POST", b"abc"), ("GET", b"")]


async def test_connection_close_and_http_1_0_end_the_connection(rig: Rig) -> None:
    assert b"connection: close" in await rig.ask(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (await rig.ask(b"GET / HTTP/1.0\r\n\r\n")).endswith(b"ok")


async def test_hop_by_hop_headers_end_at_the_gateway_and_forwarded_ones_are_its_own(rig: Rig) -> None:
    await rig.ask(
        b"GET / HTTP/1.1\r\nHost: h:1\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n"
        b"TE: trailers\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\nProxy-Authorization: x\r\n"
        b"X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Keep: 1\r\n\r\n"
    )
    headers = dict(rig.api.seen[0].headers)
    assert headers == {
        "host": "h:1",
        "x-keep": "1",
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-host": "h:1",
        "x-forwarded-proto": "http",
    }


async def test_a_client_cannot_have_host_or_credentials_dropped_through_connection(rig: Rig) -> None:
    await rig.ask(
        b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer alice\r\n"
        b"Connection: close, host, authorization\r\n\r\n"
    )
    assert rig.api.seen[0].header("host") == "h"
    assert rig.api.seen[0].header("authorization") == "Bearer alice"


async def test_an_absolute_target_replaces_the_host(rig: Rig) -> None:
    await rig.ask(b"GET http://real.example:9/p?q=1 HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n")
    assert (rig.api.seen[0].target, rig.api.seen[0].header("host")) == ("/p?q=1", "real.example:9")


REFUSED = [
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
    (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: magic\r\n\r\n", 417),
    (b"GET / HTTP/1.1\r\nHost: a\n\n", 400),
    (b"\r\n" * 20, 400),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 1\r\n\r\na", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 70_000, 431),
    (b"GET /" + b"a" * 30_000 + b" HTTP/1.1\r\n", 414),
]


@pytest.mark.parametrize(("request_", "expected"), REFUSED)
async def test_what_cannot_be_read_in_one_way_is_refused_and_nothing_reaches_the_upstream(
    rig: Rig, request_: bytes, expected: int
) -> None:
    answer = await rig.ask(request_ + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    assert status(answer) == expected
    assert answer.count(b"\r\n\r\n") == 1
    assert b'{"error": {"code": "' in answer
    assert b"connection: close" in answer
    assert rig.api.seen == []


async def test_a_broken_chunk_in_the_middle_of_an_upload_ends_it_with_400(rig: Rig) -> None:
    client = await rig.connect()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await eventually(lambda: rig.servers[0].accepted == 1)
    await client.send(b"nonsense\r\n")
    assert status(await client.all()) == 400
    assert rig.api.seen == []


async def test_head_204_and_304_have_no_body_and_keep_the_connection() -> None:
    answers = {
        "/head": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        "/204": b"HTTP/1.1 204 No Content\r\n\r\n",
        "/304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    }
    async with rigged(Recorder(lambda seen: answers[seen.target])) as rig, httpx.AsyncClient() as client:
        head = await client.head(rig.url + "/head")
        assert (head.headers["content-length"], head.content) == ("5", b"")
        assert (await client.get(rig.url + "/204")).status_code == 204
        assert (await client.get(rig.url + "/304")).headers["content-length"] == "5"
        assert rig.servers[0].accepted == 1


async def test_expect_100_continue_is_answered_before_the_body_is_sent(rig: Rig) -> None:
    client = await rig.connect()
    await client.send(b"PUT /u HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
    assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(b"data")
    assert status(await client.head()) == 200
    assert rig.api.seen[0].body == b"data"
    assert rig.api.seen[0].header("expect") is None


async def test_a_refused_request_gets_no_100_continue(rig: Rig) -> None:
    rig.set_replicas(public=False)
    client = await rig.connect()
    await client.send(
        b"PUT /d/lab/m/ HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    )
    assert status(await client.all()) == 401


async def test_interim_responses_of_the_upstream_are_dropped() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    async with rigged(Recorder(lambda seen: hints + OK)) as rig:
        answer = await rig.ask(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nok")


async def test_an_answer_that_ends_with_the_connection_is_chunked_for_http_1_1_and_closed_for_1_0() -> None:
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end"
    async with rigged(Recorder(lambda seen: answer)) as rig, httpx.AsyncClient() as client:
        got = await client.get(rig.url)
        assert (got.text, got.headers["transfer-encoding"]) == ("until the end", "chunked")
        plain = await rig.ask(b"GET / HTTP/1.0\r\n\r\n")
        assert plain.endswith(b"\r\n\r\nuntil the end")
        assert b"chunked" not in plain


async def test_an_answer_cut_short_is_not_passed_off_as_complete() -> None:
    short = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\r\nabc"
    async with rigged(Recorder(lambda seen: short)) as rig, httpx.AsyncClient() as client:
        with pytest.raises(httpx.HTTPError):
            await client.get(rig.url)


@pytest.mark.parametrize("answer", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n"])
async def test_an_answer_that_is_not_http_is_502(answer: bytes) -> None:
    async with rigged(Recorder(lambda seen: answer)) as rig:
        assert status(await rig.ask(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) == 502


async def test_the_api_being_away_is_502_with_advice(rig: Rig) -> None:
    await rig.servers[0].stop()
    (rig.folder / "api.sock").unlink(missing_ok=True)
    async with httpx.AsyncClient() as client:
        answer = await client.get(rig.url + "/api/v1/health")
    assert answer.status_code == 502
    assert answer.json()["error"]["message"] == "The blixt API does not answer."
    assert answer.headers["retry-after"] == "1"


async def test_an_early_answer_reaches_a_client_that_is_still_uploading() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await writer.drain()
        await reader.read(-1)

    async with rigged(api_handler=refuse) as rig:
        client = await rig.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
        answer = await client.all()
        assert status(answer) == 413
        assert b"connection: close" in answer
        assert answer.endswith(b"big")


_BODIES = st.lists(st.binary(max_size=3000), max_size=6)
_QUIET = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@_QUIET
@given(_BODIES, st.booleans(), st.lists(st.integers(1, 4000), max_size=10))
def test_any_request_body_arrives_whole_however_it_is_framed_and_cut(
    pieces: list[bytes], chunked: bool, cuts: list[int]
) -> None:
    body = b"".join(pieces)
    framing = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(body)))
    sender = h11.Connection(h11.CLIENT)
    wire = sender.send(h11.Request(method="POST", target="/p", headers=[("Host", "x"), framing])) or b""
    wire += b"".join(sender.send(h11.Data(data=piece)) or b"" for piece in pieces if piece)
    wire += sender.send(h11.EndOfMessage()) or b""

    async def scenario() -> None:
        async with rigged() as rig:
            client = await rig.connect()
            left = wire
            for cut in [*cuts, len(wire)]:
                await client.send(left[:cut])
                left = left[cut:]
            assert status(await client.head()) == 200
            assert [seen.body for seen in rig.api.seen] == [body]

    asyncio.run(scenario())


@_QUIET
@given(_BODIES, st.sampled_from(["length", "chunked", "closed"]))
def test_any_response_body_arrives_whole_however_it_is_framed(pieces: list[bytes], framing: str) -> None:
    body = b"".join(pieces)
    if framing == "chunked":
        sent = b"".join(b"%X;e=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece)
        answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + sent + b"0\r\nT: x\r\n\r\n"
    elif framing == "length":
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    else:
        answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body

    async def scenario() -> None:
        async with rigged(Recorder(lambda seen: answer)) as rig, httpx.AsyncClient() as client:
            for _ in range(2):
                assert (await client.get(rig.url)).content == body

    asyncio.run(scenario())
