"""One request in the hot lane: its body, its way through the hub, its answer on the wire.

It stands where uvicorn keeps its own `RequestResponseCycle`, so it has the attributes that uvicorn's protocol
reads there. To the hub it is a sink.
"""

from time import monotonic
from typing import TYPE_CHECKING

from blixt.serve.errors import Failure
from blixt.serve.http.access_log import CLIENT_LEFT
from blixt.serve.http.answers import Answer, failed, streamed, too_large, whole
from blixt.serve.http.compress import compressed
from blixt.serve.http.exchange import SSE, RawHeaders
from blixt.serve.http.hot_routes import HotRoute
from blixt.serve.http.meta import PLAIN, Submission, request_id
from blixt.serve.http.room import NO_ROOM
from blixt.serve.http.sse import KEEP_ALIVE
from blixt.serve.request import Rejected, Request
from blixt.serve.slab import SlabBody
from blixt.serve.wire import Kind

if TYPE_CHECKING:
    from blixt.serve.http.hot import HotProtocol

_ID = b"x-request-id"
_OK, _CHUNK, _END = int(Kind.OK), int(Kind.CHUNK), int(Kind.END)


class _Nobody:
    """Takes the place of uvicorn's event: nobody waits for it."""

    def set(self) -> None:
        """Uvicorn: the cycle would look up here."""


class HotExchange:
    """A request being received and answered.

    Args:
        protocol: Its connection.
        route: Where it goes.
        submission: What its headers say to the hub.
        keep_alive: Whether the connection may live on.
        noted: The headers that mean something here, by lower-case name.
    """

    __slots__ = (
        "_began_at",
        "_chunks",
        "_held",
        "_held_bytes",
        "_protocol",
        "_request",
        "_spoke_at",
        "block",
        "disconnected",
        "keep_alive",
        "more_body",
        "noted",
        "refusal",
        "response_complete",
        "response_started",
        "route",
        "size",
        "submission",
    )
    message_event = _Nobody()

    def __init__(
        self,
        protocol: "HotProtocol",
        route: HotRoute,
        submission: Submission,
        keep_alive: bool,
        noted: dict[bytes, bytes],
    ) -> None:
        self.keep_alive = keep_alive
        self.noted = noted
        self.block: SlabBody | None = None
        self.size = 0
        self.more_body = True
        self.refusal: Failure | None = None  # of a body that is, or would be, too much
        self.disconnected = False
        self.response_started = False
        self.response_complete = False
        self._protocol = protocol
        self.route = route
        self.submission = submission
        self._chunks: bytes | list[bytes] = b""
        self._request: Request | None = None
        self._held = False
        self._held_bytes = 0  # room that the body takes while it arrives
        self._began_at = 0.0
        self._spoke_at = 0.0

    # -- receiving ------------------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """The next piece of the body."""
        if self.response_complete:
            return
        start = self.size
        end = start + len(data)
        if self.block is not None:
            self.block.view[start:end] = data
        elif self.refusal is not None:
            return
        elif end > self.route.max_payload_bytes:
            self._refuse(too_large(self.route.max_payload_bytes))
            return
        elif not self.route.gate.room.take(len(data)):
            self._refuse(NO_ROOM)
            return
        elif not start:
            self._chunks = data
        elif isinstance(self._chunks, bytes):
            self._chunks = [self._chunks, data]
        else:
            self._chunks.append(data)
        if self.block is None:
            self._held_bytes = end
        self.size = end

    def _refuse(self, failure: Failure) -> None:
        self._forget_body()
        self.refusal = failure
        self._protocol.has_excess(self)

    def _forget_body(self) -> None:
        """Give the room back that the body has taken."""
        self._chunks = b""
        if self._held_bytes:
            self.route.gate.room.give(self._held_bytes)
            self._held_bytes = 0

    def receive_whole(self, body: bytes) -> None:
        """All of the body at once, within its bound, and it is this request's turn."""
        self.size = len(body)
        self.more_body = False
        self._chunks = body
        self.submit()

    def submit(self) -> None:
        """It is this request's turn, and the body is whole or known to be too large."""
        if self.response_complete:
            return
        self._began_at = self._spoke_at = monotonic()
        if self.refusal is not None:
            self._answer(failed(self.refusal, self.route.error_body))
            return
        body: bytes | SlabBody
        if self.block is not None:
            body, self.block = self.block, None
        else:
            body = self._chunks if isinstance(self._chunks, bytes) else b"".join(self._chunks)
            self._forget_body()
        try:
            if self.submission is PLAIN:
                self._request = self.route.hub.submit(body, self)
            else:
                asked = self.submission
                self._request = self.route.hub.submit(
                    body, self, priority=asked.priority, timeout_s=asked.timeout_s, meta=asked.meta
                )
        except Rejected as rejected:
            if isinstance(body, SlabBody):
                body.release()
            self._answer(failed(rejected.failure, self.route.error_body))

    def leave(self) -> None:
        """The client has gone: the work stops, and nothing is sent any more."""
        self.disconnected = True
        if self.block is not None:
            self.block.release()
            self.block = None
        self._forget_body()
        if self._request is not None and not self.response_complete:
            self.route.hub.cancel(self._request)
            self._note(CLIENT_LEFT)

    def hold(self) -> None:
        """The client is behind: hold the stream."""
        if self._request is not None and self.route.stream and not self._held:
            self._held = True
            self.route.hub.pause(self._request)

    def keep_alive_comment(self, now: float) -> None:
        """A stream that is silent for long gets a comment, so that no proxy gives it up."""
        if self._request is None or self._held or not self.route.stream:
            return
        if now - self._spoke_at > self.route.gate.keep_alive_s:
            self._spoke_at = now
            self._begin_stream()
            self._protocol.transport.write(_chunk(KEEP_ALIVE))

    def go_on(self) -> None:
        """The client has caught up."""
        if self._request is not None and self._held:
            self._held = False
            self.route.hub.resume(self._request)

    # -- answering ------------------------------------------------------------------------------------------

    def deliver(self, kind: int, payload: bytes) -> None:
        """Hub: the answer, or the next piece of it."""
        if self.disconnected or self.response_complete:
            return
        if kind == _OK and len(payload) <= self.route.plain_bytes and _ID not in self.noted:
            protocol = self._protocol
            end = b"\r\n\r\n" if self.keep_alive else b"\r\nconnection: close\r\n\r\n"
            protocol.transport.write(b"%b%d%b%b" % (protocol.heads().json, len(payload), end, payload))
            self._complete(200)
        elif kind == _CHUNK or self.response_started or (kind == _END and self.route.stream):
            self._deliver_piece(kind, payload)
        else:
            self._answer(whole(kind, payload, self.route.error_body))

    def _deliver_piece(self, kind: int, payload: bytes) -> None:
        if not self.response_started:
            self._begin_stream()
        write = self._protocol.transport.write
        if kind == _CHUNK:
            write(b"%x\r\ndata: %b\n\n\r\n" % (len(payload) + 8, payload))  # `streamed`, without its calls
            self._spoke_at = monotonic()
        else:
            data = streamed(kind, payload)
            write((_chunk(data) if data else b"") + b"0\r\n\r\n")
            self._complete(200)

    def _begin_stream(self) -> None:
        if not self.response_started:
            self.response_started = True
            head = self._protocol.heads().head(200, [*SSE, *self._echo()], self.keep_alive)
            self._protocol.transport.write(head + b"transfer-encoding: chunked\r\n\r\n")

    def _answer(self, answer: Answer) -> None:
        status, body, headers = answer
        if status == 200:
            accepted = self.noted.get(b"accept-encoding")
            body, headers = compressed(body, headers, accepted, self.route.gate.compress_over_bytes)
        headers = [*headers, *self._echo(), (b"content-length", b"%d" % len(body))]
        self.response_started = True
        self.keep_alive &= all(value != b"close" for name, value in headers if name == b"connection")
        self._protocol.transport.write(
            self._protocol.heads().head(status, headers, self.keep_alive) + b"\r\n" + body
        )
        self._complete(status)

    def _echo(self) -> RawHeaders:
        value = self.noted.get(_ID)
        return [(_ID, value)] if value is not None and request_id(value) else []

    def _complete(self, status: int) -> None:
        self.response_started = self.response_complete = True
        self.route.metrics.answered(status, monotonic() - self._began_at)
        if self.route.gate.access_log is not None:
            self._note(status)
        self._protocol.on_hot_response_complete(self)

    def _note(self, status: int) -> None:
        log = self.route.gate.access_log
        if log is not None:
            took_s = monotonic() - self._began_at
            log.record("POST", self.route.path, status, took_s, self._protocol.client, self.noted.get(_ID))


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
