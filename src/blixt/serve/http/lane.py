"""The cold lane: an API's POST route as a plain ASGI app on top of the hub.

The hot lane inside uvicorn's protocol stands beside it. Both share the `Gate`, and the pure functions that
shape answers, so that a client cannot tell them apart.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
from starlette.exceptions import HTTPException

from blixt.serve.codec import to_json
from blixt.serve.errors import Failure, HTTPError
from blixt.serve.http.access_log import CLIENT_LEFT
from blixt.serve.http.answers import ErrorBody, failed, streamed, whole
from blixt.serve.http.auth import MISSING
from blixt.serve.http.compress import compressed
from blixt.serve.http.exchange import JSON, SSE, ClientGone, Exchange, Receive, Scope, Send, fastapi_error
from blixt.serve.http.gate import Gate
from blixt.serve.http.meta import META_HEADERS, PLAIN, Submission, read_meta, request_id
from blixt.serve.http.sinks import AnswerSink, AnyHub, Item, StreamSink
from blixt.serve.http.sse import KEEP_ALIVE, event
from blixt.serve.request import Rejected
from blixt.serve.service import Running
from blixt.serve.wire import Kind

QUICK_S = 0.01
MAX_WHOLE_BYTES = 256 * 2**20
JSON_TYPE = b"application/json"
_TELLING = META_HEADERS - {b"content-type"}
logger = logging.getLogger("blixt.serve")


class Lane:
    """One route: checks, then `handle`, then one place that turns any error into an answer."""

    method = "POST"
    summary = ""
    hot: Literal["answer", "stream"] | None = None
    cold_reason: str = "the app puts its answers into shape"

    def __init__(self, gate: Gate, error_body: ErrorBody = fastapi_error) -> None:
        self.gate = gate
        self.error_body = error_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: one request."""
        exchange = Exchange(scope, receive, send)
        running = self.gate.find()
        began = time.monotonic()
        tracing = self.gate.tracing() if self.gate.tracing is not None else None
        if tracing is not None:
            exchange.trace = tracing.begin(exchange.method, exchange.path, exchange.headers)
        try:
            if exchange.method != self.method:
                raise HTTPError(405, headers={"allow": self.method})
            headers = exchange.headers
            if not (self.gate.authorized(headers) or await self.gate.authenticated(headers)):
                raise HTTPError(401, MISSING, {"www-authenticate": "Bearer"})
            body = await exchange.body(self.gate.max_payload_bytes, self.gate.room)
            began = time.monotonic()
            running = self.choose(body).find()
            await self.handle(exchange, running, body)
        except HTTPError as error:
            await self.fail(exchange, Failure(error.status, error.detail, error.headers))
        except Rejected as rejected:
            await self.fail(exchange, rejected.failure)
        except ClientGone:
            self._note(exchange, CLIENT_LEFT, began)
        except HTTPException as error:  # of a middleware, while we read the body through it
            await self.fail(exchange, Failure(error.status_code, error.detail, dict(error.headers or {})))
        except Exception:
            logger.exception("%s failed on a request", exchange.path)
            await self.fail(exchange, Failure(500, "Internal Server Error"))
        finally:
            exchange.unwatch()
            if exchange.status:
                running.metrics.answered(exchange.status, time.monotonic() - began)
                self._note(exchange, exchange.status, began)
            if exchange.trace is not None:
                exchange.trace.end(exchange.status)

    def _note(self, exchange: Exchange, status: int, began: float) -> None:
        log = self.gate.access_log
        if log is not None:
            took_s = time.monotonic() - began
            identity = exchange.noted.get(b"x-request-id")
            log.record(exchange.method, exchange.path, status, took_s, exchange.client, identity)

    def choose(self, body: bytes) -> Gate:
        """Which API this request is for."""
        return self.gate

    async def handle(self, exchange: Exchange, running: Running, body: bytes) -> None:
        """Answer one request."""
        raise HTTPError(501)

    def openapi(self) -> dict[str, Any]:
        """The route in the OpenAPI schema, see `docs`."""
        return {"summary": self.summary or type(self).__name__}

    async def answer(
        self, exchange: Exchange, status: int, body: bytes, headers: list[tuple[bytes, bytes]]
    ) -> None:
        """Send a whole answer, compressed if it pays and the client accepts it."""
        if status == 200:
            accepted = exchange.noted.get(b"accept-encoding")
            body, headers = compressed(body, headers, accepted, self.gate.compress_over_bytes)
        await exchange.answer(status, body, [*headers, *echo(exchange)])

    async def fail(self, exchange: Exchange, failure: Failure) -> None:
        """Answer with an error that came before anything else was sent."""
        if not exchange.status:
            answer = failed(failure, self.error_body)
            await exchange.answer(answer.status, answer.body, [*answer.headers, *echo(exchange)])


class AnswerLane(Lane):
    """One body in, one answer out."""

    hot = "answer"
    cold_reason = ""

    async def handle(self, exchange: Exchange, running: Running, body: bytes) -> None:
        """Submit, wait, answer; cancel if the client leaves first."""
        sink = AnswerSink()
        hub: AnyHub = running.pool.hub
        said = submission_of(exchange, running)
        request = hub.submit(body, sink, priority=said.priority, timeout_s=said.timeout_s, meta=said.meta)
        follow(exchange, [request])
        exchange.watch(sink.leave, QUICK_S)
        try:
            kind, payload = await sink.answer
        finally:
            hub.cancel(request)
        answer = whole(kind, payload, self.error_body)
        await self.answer(exchange, answer.status, answer.body, answer.headers)


class StreamLane(Lane):
    """One body in, server-sent events out. An error before the first piece is a plain HTTP error."""

    hot = "stream"
    cold_reason = ""

    async def handle(self, exchange: Exchange, running: Running, body: bytes) -> None:
        """Submit, send pieces as they come, stop the generator if the client leaves."""
        sink = StreamSink(running.pool.hub, self.gate.keep_alive_s)
        sink.submit(body, submission_of(exchange, running))
        follow(exchange, sink.tickets)
        try:
            await self.send_pieces(exchange, sink)
        finally:
            sink.cancel()

    async def send_pieces(self, exchange: Exchange, sink: StreamSink) -> None:
        """Server-sent events, as the pieces come."""
        exchange.watch(sink.leave)
        items = await sink.next()
        if items and items[0][1] not in (Kind.CHUNK, Kind.END):
            answer = whole(*items[0][1:], self.error_body)
            return await self.answer(exchange, answer.status, answer.body, answer.headers)
        await exchange.start_stream([*SSE, *echo(exchange)])
        count = 0
        while sink.live:
            await exchange.piece(self._events(items, count) or KEEP_ALIVE)
            count += len(items)
            items = await sink.next()
        await exchange.end_stream(self._events(items, count))

    def _events(self, items: list[Item], count: int) -> bytes:
        if not self.gate.sse_ids:
            return b"".join([streamed(kind, payload) for _, kind, payload in items])
        numbered = [
            event(payload, id=number) if kind == Kind.CHUNK else streamed(kind, payload)
            for number, (_, kind, payload) in enumerate(items, count + 1)
        ]
        return b"".join(numbered)


class ChoiceLane(StreamLane):
    """A stream for clients that ask for one, else all pieces in one answer.

    A client asks with `Accept: text/event-stream`, or with `"stream": true` in a JSON object.

    Args:
        gate: The API's.
        join: Makes one JSON-able answer of all pieces.
    """

    hot = None
    cold_reason = "the client chooses between a stream and a whole answer"

    def __init__(self, gate: Gate, join: Callable[[list[Any]], Any]) -> None:
        super().__init__(gate)
        self._join = join

    async def handle(self, exchange: Exchange, running: Running, body: bytes) -> None:
        """As events, or joined."""
        if wants_stream(exchange, body):
            return await super().handle(exchange, running, body)
        sink = StreamSink(running.pool.hub)
        sink.submit(body, submission_of(exchange, running))
        follow(exchange, sink.tickets)
        exchange.watch(sink.leave)
        try:
            pieces: list[Any] = []
            size_bytes = 0
            while sink.live:
                for _, kind, payload in await sink.next():
                    size_bytes = bounded(size_bytes + len(payload))
                    if kind == Kind.CHUNK:
                        pieces.append(msgspec.json.decode(payload))
                    elif kind != Kind.END:
                        answer = whole(kind, payload, self.error_body)
                        return await self.answer(exchange, answer.status, answer.body, answer.headers)
            await self.answer(exchange, 200, to_json(self._join(pieces)), [JSON])
        finally:
            sink.cancel()


def bounded(size_bytes: int) -> int:
    """The size of pieces that are kept to be sent as one answer.

    Raises:
        HTTPError: 500 if they are too many to be kept.
    """
    if size_bytes > MAX_WHOLE_BYTES:
        raise HTTPError(500, f"The answer is larger than {MAX_WHOLE_BYTES} bytes; ask for it as a stream.")
    return size_bytes


class _Wish(msgspec.Struct):
    stream: bool = False


_wish = msgspec.json.Decoder(_Wish)


def wants_stream(exchange: Exchange, body: bytes) -> bool:
    """Whether the client asks for its answer in pieces."""
    accepted = exchange.noted.get(b"accept", b"")
    if b"text/event-stream" in accepted.lower():
        return True
    try:
        return _wish.decode(body).stream
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


def echo(exchange: Exchange) -> list[tuple[bytes, bytes]]:
    """The client's request id, as a header of the answer."""
    value = exchange.noted.get(b"x-request-id")
    return [(b"x-request-id", value)] if value is not None and request_id(value) else []


def submission_of(exchange: Exchange, running: Running) -> Submission:
    """What the request says to the hub."""
    noted, wants = exchange.noted, running.plan.wants_headers
    plain = noted.get(b"content-type", JSON_TYPE) == JSON_TYPE and not noted.keys() & _TELLING
    if plain and not wants and exchange.trace is None:
        return PLAIN
    traceparent = exchange.trace.traceparent if exchange.trace is not None else ""
    return read_meta(exchange.headers, wants, exchange.path, exchange.query, traceparent)


def follow(exchange: Exchange, tickets: Sequence[Any]) -> None:
    """Tell the request's trace, if it has one, what was asked of the hub."""
    if exchange.trace is not None:
        exchange.trace.follow(ticket for ticket in tickets if hasattr(ticket, "sent_at"))
