"""The cold lane: an API's POST route as a plain ASGI app on top of the hub.

A hot lane inside uvicorn's protocol can stand beside it: it needs `Hub.submit` with a sink of its own and
the `Gate`, and nothing else from here.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from blixt.serve.errors import Failure, HTTPError
from blixt.serve.http.auth import Headers
from blixt.serve.http.exchange import (
    BYTES,
    JSON,
    SSE,
    ClientGone,
    Exchange,
    Receive,
    Scope,
    Send,
    fastapi_error,
    raw_headers,
)
from blixt.serve.http.sinks import AnswerSink, Item, StreamSink, submit_stream
from blixt.serve.http.sse import event
from blixt.serve.request import Rejected
from blixt.serve.service import Running
from blixt.serve.wire import FINAL, Kind

ErrorBody = Callable[[int, object], bytes]
QUICK_S = 0.01
_failure = msgspec.json.Decoder(Failure)


@dataclass(frozen=True, slots=True)
class Gate:
    """What every route of an API checks and needs.

    Args:
        find: The running side of the API; asked per request because a server may start and stop again.
        authorized: Whether headers carry the key.
        max_payload_bytes: Bound on a body.
    """

    find: Callable[[], Running]
    authorized: Callable[[Headers], bool]
    max_payload_bytes: int


class Lane:
    """One route: checks, then `handle`, then one place that turns any error into an answer."""

    method = "POST"
    summary = ""

    def __init__(self, gate: Gate, error_body: ErrorBody = fastapi_error) -> None:
        self._gate = gate
        self._error_body = error_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: one request."""
        exchange = Exchange(scope, receive, send)
        running = self._gate.find()
        began = time.monotonic()
        try:
            if exchange.method != self.method:
                raise HTTPError(405, headers={"allow": self.method})
            if not self._gate.authorized(exchange.headers):
                raise HTTPError(401, "The API key is missing or wrong.", {"www-authenticate": "Bearer"})
            body = await exchange.body(self._gate.max_payload_bytes)
            began = time.monotonic()
            await self.handle(exchange, running, body)
        except HTTPError as error:
            await self.fail(exchange, Failure(error.status, error.detail, error.headers))
        except Rejected as rejected:
            await self.fail(exchange, rejected.failure)
        except ClientGone:
            return
        finally:
            exchange.unwatch()
            if exchange.status:
                running.metrics.answered(exchange.status, time.monotonic() - began)

    async def handle(self, exchange: Exchange, running: Running, body: bytes) -> None:
        """Answer one request."""
        raise HTTPError(501)

    def openapi(self) -> dict[str, object]:
        """The route in the OpenAPI schema."""
        answers = {"200": {"description": "The answer"}}
        out: dict[str, object] = {"summary": self.summary or type(self).__name__, "responses": answers}
        if self.method == "POST":
            out["requestBody"] = {"required": True, "content": {"application/json": {"schema": {}}}}
        return out

    async def fail(self, exchange: Exchange, failure: Failure) -> None:
        """Answer with an error that came before anything else was sent."""
        if exchange.status:
            return
        headers = [JSON, *raw_headers(failure.headers)]
        await exchange.answer(failure.status, self._error_body(failure.status, failure.detail), headers)


class AnswerLane(Lane):
    """One body in, one answer out."""

    async def handle(self, exchange: Exchange, running: Running, body: bytes) -> None:
        """Submit, wait, answer; cancel if the client leaves first."""
        sink = AnswerSink()
        hub = running.pool.hub
        request = hub.submit(body, sink)
        exchange.watch(sink.leave, QUICK_S)
        try:
            kind, payload = await sink.answer
        finally:
            hub.cancel(request)
        if kind == Kind.OK:
            await exchange.answer(200, payload, [JSON])
        elif kind == Kind.ERROR:
            await self.fail(exchange, _failure.decode(payload))
        else:
            await exchange.answer(200, payload, [BYTES])


class StreamLane(Lane):
    """One body in, server-sent events out. An error before the first piece is a plain HTTP error."""

    async def handle(self, exchange: Exchange, running: Running, body: bytes) -> None:
        """Submit, send pieces as they come, stop the generator if the client leaves."""
        sink = submit_stream(running.pool.hub, body)
        try:
            await self._send_pieces(exchange, sink)
        finally:
            sink.cancel()

    async def _send_pieces(self, exchange: Exchange, sink: StreamSink) -> None:
        exchange.watch(sink.leave)
        items = await sink.next()
        if items[0][0] == Kind.ERROR:
            await self.fail(exchange, _failure.decode(items[0][1]))
            return
        await exchange.start_stream(SSE)
        while items[-1][0] not in FINAL:
            await exchange.piece(_events(items))
            items = await sink.next()
        await exchange.end_stream(_events(items))


def _events(items: list[Item]) -> bytes:
    return b"".join(_event(kind, payload) for kind, payload in items)


def _event(kind: int, payload: bytes) -> bytes:
    if kind == Kind.CHUNK:
        return event(payload)
    if kind == Kind.ERROR:
        failure = _failure.decode(payload)
        return event(msgspec.json.encode({"status": failure.status, "detail": failure.detail}), "error")
    return b""
