"""The hot lane: inference requests answered inside uvicorn's protocol, without ASGI's scope, task and events.

A subclass of uvicorn's httptools protocol. When the headers of a request are complete it looks its path up:
a plain POST to an eligible route becomes a `HotExchange`, and everything else (other methods and paths,
HTTP/1.0, upgrades, a wrong key, a body announced as too large) is handed to uvicorn as if this file did not
exist, so its answer comes from the ASGI app. Pipelining, keep-alive and graceful stop treat both alike: a
`HotExchange` takes the place of uvicorn's own cycle.
"""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import httptools

from blixt.serve.http.body import BlockReceiver
from blixt.serve.http.hot_broken import heard
from blixt.serve.http.hot_exchange import HotExchange
from blixt.serve.http.hot_heads import Heads
from blixt.serve.http.hot_linger import LingeringTransport
from blixt.serve.http.hot_patience import Patience, Verdict
from blixt.serve.http.hot_routes import HotRoute
from blixt.serve.http.hot_watch import WatchedProtocol
from blixt.serve.slab import Slab

NEVER = 2**62
SLAB_FROM_BYTES = 64 * 2**10
_SLAB_FROM_DIGITS = len(str(SLAB_FROM_BYTES))
MALFORMED = Verdict(400, "The request is not valid HTTP.")
HEAD_TOO_LARGE = Verdict(431, "The request's headers are too large.")
NOTED = frozenset(
    {
        b"accept-encoding",
        b"connection",
        b"content-length",
        b"content-type",
        b"expect",
        b"traceparent",
        b"x-priority",
        b"x-request-id",
        b"x-timeout-s",
    }
)


class HotProtocol(WatchedProtocol):
    """One connection.

    Args:
        routes: Eligible routes by path as it stands in a request line.
        slab: Where bodies of `SLAB_FROM_BYTES` and more are received, or None.
        patience: How long and how much clients may take.
        heads: The answers' common headers.
        uvicorn: What uvicorn gives every protocol.
    """

    def __init__(
        self,
        routes: Mapping[bytes, HotRoute],
        slab: Slab | None,
        patience: Patience,
        heads: Heads,
        **uvicorn: Any,
    ) -> None:
        super().__init__(patience, heads, **uvicorn)
        self._routes = routes
        self._slab = slab
        self._lend: HotExchange | None = None  # its body goes on into the slab once this read is parsed
        self._is_lent = False
        self._noted: dict[bytes, bytes] = {}
        self._crowded_from = self.limit_concurrency or NEVER  # connections; from here on uvicorn refuses
        self._is_large = False  # this read could hold a head that is too large
        self._stalled = False  # an answer is done, but the client has not taken it: begin no other

    # -- the connection -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio: a client."""
        real = cast(asyncio.Transport, transport)  # uvloop's transports inherit nothing
        self._closing = LingeringTransport(real, self._may_be_sending, self.loop)
        super().connection_made(cast(asyncio.Transport, self._closing))
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio: the client has gone; its requests are cancelled."""
        self._stop_looking()
        unanswered = [self._active, *(cycle for cycle, _ in self.pipeline)]
        self.pipeline.clear()
        for cycle in unanswered:
            if cycle is not None and not cycle.response_complete:
                if type(cycle) is HotExchange:
                    cycle.leave()
                cycle.disconnected = True
                cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Asyncio: feed the parser, which calls the `on_` methods below."""
        self.seen_at = self.loop.time()
        if self._verdict is not None or self._closing.lingers:
            return
        if self._in_head or self._in_body:
            self.read_bytes += len(data)
        self._is_large = len(data) > self._patience.head_bytes
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._upgrade()
            return
        except httptools.HttpParserError:
            self._refuse(self._verdict or MALFORMED)
            return
        if self._lend is not None:
            self._lend_connection(self._lend)
        elif self._in_head and self.read_bytes > self._patience.head_bytes:
            self._refuse(HEAD_TOO_LARGE)

    def pause_writing(self) -> None:
        """Asyncio: the client reads slowly; a stream is held."""
        super().pause_writing()
        self._unsent_bytes = 2**62
        if type(self._active) is HotExchange:
            self._active.hold()

    def resume_writing(self) -> None:
        """Asyncio: the client has caught up."""
        super().resume_writing()
        if type(self._active) is HotExchange:
            self._active.go_on()
        if self._stalled:
            self._stalled = False
            self._answer_next()

    # -- the parser -----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Parser: a request begins."""
        self.url = b""
        self.headers = []
        self._noted = {}
        self._in_head = True
        self.read_bytes = 0
        self._began_at = self.seen_at

    def on_header(self, name: bytes, value: bytes) -> None:
        """Parser: one header."""
        name = name.lower()
        self.headers.append((name, value))
        if name in NOTED:
            noted = self._noted
            noted[b"" if name in noted else name] = value  # b"": something came twice

    def on_headers_complete(self) -> None:
        """Parser: choose the lane."""
        self._in_head = False
        self._began_at = self.seen_at
        spanning, self.read_bytes = self.read_bytes, 0
        if spanning or self._is_large:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > self._patience.head_bytes:
                self._verdict = HEAD_TOO_LARGE
                raise ValueError(HEAD_TOO_LARGE.sentence)  # ends the parser's work; data_received answers
        parser, url, noted = self.parser, self.url, self._noted
        route = self._routes.get(url)
        if route is None and b"?" in url:
            route = self._routes.get(url.partition(b"?")[0])
        if route is None or parser.get_method() != b"POST" or parser.should_upgrade():
            self._begin_cold()
            return
        if len(self.connections) >= self._crowded_from:
            self._begin_cold()
            return
        keep_alive = parser.should_keep_alive()
        # Without a connection header, HTTP/1.0 does not keep alive: no need to ask for the version then.
        is_old = (not keep_alive or b"connection" in noted) and parser.get_http_version() != "1.1"
        submission = None if is_old else route.admit(self.headers, noted, url)
        if submission is None:
            self._begin_cold()
        else:
            self._begin_hot(HotExchange(self, route, submission, keep_alive, noted))

    def on_body(self, body: bytes) -> None:
        """Parser: a piece of the body."""
        if type(self.cycle) is not HotExchange:
            super().on_body(body)
        elif self._in_body:
            self.cycle.receive(body)

    def on_message_complete(self) -> None:
        """Parser: the request is whole."""
        if not self._in_body:
            return
        self._in_body = False
        self._lend = None
        cycle = self.cycle
        if type(cycle) is not HotExchange:
            super().on_message_complete()
            return
        cycle.more_body = False
        if cycle is self._active:
            cycle.submit()

    def _begin_cold(self) -> None:
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        self.headers += headers  # the scope holds this very list
        self.expect_100_continue = self._noted.get(b"expect", b"").lower() == b"100-continue"
        before = self.cycle
        super().on_headers_complete()
        self._in_body = self.cycle is not before

    def _begin_hot(self, exchange: HotExchange) -> None:
        before, self.cycle = self.cycle, exchange
        self._in_body = True
        if before is not None and not before.response_complete:
            self.flow.pause_reading()
            self.pipeline.appendleft((exchange, None))  # type: ignore[arg-type]
            return
        self._activate(exchange)
        length = self._noted.get(b"content-length", b"")
        if len(length) >= _SLAB_FROM_DIGITS and self._slab is not None and self.scheme == "http":
            exchange.block = self._slab.lend(int(length)) if int(length) >= SLAB_FROM_BYTES else None
            if exchange.block is not None:
                self._lend = exchange

    # -- one request after the other ------------------------------------------------------------------------

    def on_hot_response_complete(self, exchange: HotExchange) -> None:
        """As `on_response_complete`, quick in the usual case: nothing waits, and the client listens."""
        if exchange.keep_alive and not (self.pipeline or self._verdict or self.flow.write_paused):
            self.server_state.total_requests += 1
            self.seen_at = self.loop.time()
            return
        if not exchange.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def on_response_complete(self) -> None:
        """An answer is whole, in either lane: begin the next request, or wait for it."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.flow.write_paused:
            self._stalled = True
            self.flow.pause_reading()
        else:
            self._answer_next()

    def _answer_next(self) -> None:
        self.seen_at = self.loop.time()
        if self.pipeline:
            self.loop.call_soon(self._start_next)  # not now: thousands may stand in one read
        elif self._verdict is not None:
            self._pronounce(self._verdict)
        self.flow.resume_reading()

    def _start_next(self) -> None:
        if self.pipeline and not self.transport.is_closing():
            cycle, app = self.pipeline.pop()
            if isinstance(cycle, HotExchange):
                self._activate(cycle)
                if not cycle.more_body or cycle.refusal is not None:
                    cycle.submit()
            else:
                self._start_asgi_task(cycle, app)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._active = cycle
        super()._start_asgi_task(cycle, heard(app, partial(self._asks_in_vain, cycle)))  # type: ignore[arg-type]

    def _activate(self, exchange: Any) -> None:
        self._active = exchange
        if b"expect" in exchange.noted and exchange.noted[b"expect"].lower() == b"100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def has_excess(self, exchange: HotExchange) -> None:
        """A body has outgrown its bound: the request is refused as soon as it is its turn."""
        if exchange is self._active:
            exchange.submit()

    # -- bodies in the slab ---------------------------------------------------------------------------------

    def _lend_connection(self, exchange: HotExchange) -> None:
        self._lend, self._is_lent = None, True
        self._switch(BlockReceiver(self, exchange))

    def take_back(self) -> None:
        """The receiver has the whole body: go on with what follows it."""
        self._is_lent = False
        self._switch(self)
        self.parser = httptools.HttpRequestParser(self)  # the old one still waits for that body
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.on_message_complete()

    def _take_connection_back(self) -> None:
        if self._is_lent:
            self._switch(self)

    def _switch(self, protocol: asyncio.BaseProtocol) -> None:
        self.transport.pause_reading()  # uvloop chooses between the kinds of protocol when reading starts
        self.transport.set_protocol(protocol)
        self.transport.resume_reading()

    def _upgrade(self) -> None:
        if self._should_upgrade():
            self._stop_looking()
            self.transport = self._closing.real
            self.handle_websocket_upgrade()
        else:
            self._unsupported_upgrade_warning()
