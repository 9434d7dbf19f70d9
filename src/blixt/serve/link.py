"""The front's end of one worker's socket."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from blixt.serve.page import Page
from blixt.serve.wire import FINAL, FrameReader, Kind, Message, encode

if TYPE_CHECKING:
    from blixt.serve.request import Request

EWMA = 0.2
FRAME_PAYLOAD_BYTES = 64 * 2**20


class Link(asyncio.Protocol):
    """What one worker holds, and the way to it.

    Args:
        on_message: Called with every message the worker sends.
        on_closed: Called once, when the socket is closed from either side.
        on_busy: Called with the microseconds a worker has computed.
    """

    def __init__(
        self,
        page: Page,
        on_message: "Callable[[Link, Message], None]",
        on_closed: "Callable[[Link], None]",
        on_busy: Callable[[int], None],
    ) -> None:
        self.page = page
        self.in_flight: dict[int, Request] = {}
        self.sent = 0
        self.service_s = 0.0
        self._on_message = on_message
        self._on_closed = on_closed
        self._on_busy = on_busy
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio: the socket is ours."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports inherit nothing

    def data_received(self, data: bytes) -> None:
        """Asyncio: cut frames, learn the service time, pass the messages on."""
        for busy_us, messages in self._reader.feed(data):
            self._on_busy(busy_us)
            ended = sum(message.kind in FINAL for message in messages)
            if ended:
                sample = busy_us / 1e6 / ended
                self.service_s += EWMA * (sample - self.service_s) if self.service_s else sample
            for message in messages:
                self._on_message(self, message)

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio: the worker has gone, or we let it go."""
        self._transport = None
        self._on_closed(self)

    @property
    def is_open(self) -> bool:
        """Whether a worker listens."""
        return self._transport is not None

    def send_requests(self, requests: "Sequence[Request]") -> None:
        """Hand requests over; in one frame unless their bodies are huge."""
        frame: list[tuple[int, int, bytes]] = []
        size = 0
        for request in requests:
            self.sent += 1
            request.sequence = self.sent
            self.in_flight[request.id] = request
            if frame and size + len(request.body) > FRAME_PAYLOAD_BYTES:
                self._write(frame)
                frame, size = [], 0
            frame.append((request.id, Kind.REQUEST, request.body))
            size += len(request.body)
        self._write(frame)

    def send_control(self, id: int, kind: Kind) -> None:
        """CANCEL, PAUSE or RESUME one request."""
        self._write([(id, kind, b"")])

    def has_begun(self, request: "Request") -> bool:
        """Whether the worker has touched this request."""
        return request.sequence <= self.page.started

    def close(self) -> None:
        """End the worker: it exits when its socket closes."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Drop the socket of a worker that has ended."""
        if self._transport is not None:
            self._transport.abort()

    def _write(self, messages: list[tuple[int, int, bytes]]) -> None:
        if self._transport is not None:
            self._transport.write(encode(messages))
