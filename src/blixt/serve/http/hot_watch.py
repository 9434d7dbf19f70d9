"""What does not go well on a connection: clients that are slow, bodies that break, refusals that must wait.

The part of the protocol that watches. It knows both lanes' requests, and nothing of how they are begun.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from blixt.serve.http.exchange import JSON
from blixt.serve.http.hot_exchange import HotExchange
from blixt.serve.http.hot_heads import Heads
from blixt.serve.http.hot_linger import LingeringTransport
from blixt.serve.http.hot_patience import Patience, Verdict


class WatchedProtocol(HttpToolsProtocol):
    """One connection, watched from its beginning to its end.

    Args:
        patience: How long and how much clients may take.
        heads: The answers' common headers.
        uvicorn: What uvicorn gives every protocol.
    """

    cycle: Any  # the request parsed last: a HotExchange or uvicorn's cycle

    def __init__(self, patience: Patience, heads: Heads, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self.seen_at = 0.0  # the client's last bytes, or the end of the last answer
        self.read_bytes = 0  # of a head, and then of a body, that spans reads: without the first of them
        self._closing: LingeringTransport
        self._patience = patience
        self._heads = heads
        self._timer: asyncio.TimerHandle | None = None
        self._active: Any = None  # the request being answered
        self._verdict: Verdict | None = None  # what the client is told once everything before is answered
        self._broken: Any = None  # the request whose own body the verdict is about
        self._in_head = False
        self._in_body = False
        self._began_at = 0.0  # the head, and then the body
        self._unsent_bytes = 0

    def heads(self) -> Heads:
        """The common headers as they are now."""
        heads = self._heads
        if heads.made_of is not self.server_state.default_headers:
            heads.make(self.server_state.default_headers)
        return heads

    def _watch(self) -> None:
        self.seen_at = self._began_at = self.loop.time()
        self._timer = self.loop.call_later(self._patience.look_s, self._look)

    def _take_connection_back(self) -> None:
        """Before a last word: whoever was lent the connection gives it back."""

    def _refuse(self, verdict: Verdict) -> None:
        """Tell the client, after the answers it still gets."""
        self._verdict = verdict = self._verdict or verdict
        cycle = self._broken = self.cycle if self._in_body else None
        if cycle is not None and type(cycle) is not HotExchange:
            cycle.message_event.set()  # what it waits for comes no more
            if cycle.response_complete:
                self._pronounce(verdict)
        elif cycle is not None and cycle is self._active:
            self._pronounce(verdict)
        else:
            if cycle is not None:
                self.pipeline.popleft()
                cycle.leave()
            if not self.pipeline and (self._active is None or self._active.response_complete):
                self._pronounce(verdict)

    def _asks_in_vain(self, cycle: Any) -> bool:
        """Whether the app asks for the rest of a broken body; then the client is told what is wrong."""
        if cycle is not self._broken or self._verdict is None or cycle.body:
            return False
        self._pronounce(self._verdict)
        cycle.disconnected = True  # nothing that the app may still say is sent
        return True

    def _pronounce(self, verdict: Verdict) -> None:
        if self.transport.is_closing():
            return
        active = self._active
        if active is None or active is not self._broken or not active.response_started:
            length = (b"content-length", b"%d" % len(verdict.body))
            head = self.heads().head(verdict.status, [JSON, length], keep_alive=False)
            self.transport.write(head + b"\r\n" + verdict.body)
        if type(active) is HotExchange and not active.response_complete:
            self._take_connection_back()
            active.leave()
        self.transport.close()

    def _may_be_sending(self) -> bool:
        return self._in_body or self._verdict is not None or self.flow.read_paused

    def _look(self) -> None:
        """Every few seconds: has this client had its time?"""
        patience, now = self._patience, self.loop.time()
        self._timer = self.loop.call_later(patience.look_s, self._look)
        if self.flow.write_paused:
            unsent = self.transport.get_write_buffer_size()
            if unsent < self._unsent_bytes:
                self._unsent_bytes, self.seen_at = unsent, now
            elif now - self.seen_at > patience.read_s:
                self.transport.abort()
        elif self._in_head:
            if now - self._began_at > patience.head_s:
                self._refuse(patience.head_verdict)
        elif self._in_body and self._verdict is None:
            if self.flow.read_paused:
                self._began_at += patience.look_s  # we do not read: this time is not the client's
            elif verdict := patience.of_body(now - self.seen_at, now - self._began_at, self.read_bytes):
                self._refuse(verdict)
        elif self._active is not None and not self._active.response_complete:
            if type(self._active) is HotExchange:
                self._active.keep_alive_comment(now)
        else:
            if now - self.seen_at > patience.keep_alive_s and not self.pipeline:
                self.transport.close()

    def _stop_looking(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
