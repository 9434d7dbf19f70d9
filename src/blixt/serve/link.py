"""The front's end of one worker's socket."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from blixt.serve.page import Page
from blixt.serve.wire import FrameReader, Kind, Message, encode

if TYPE_CHECKING:
    from blixt.serve.request import Request

EWMA = 0.2
FRAME_PAYLOAD_BYTES = 64 * 2**20
SOCKET_BYTES = 2**20
_META, _REQUEST, _SLAB = int(Kind.META), int(Kind.REQUEST), int(Kind.SLAB)


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """A front's and a worker's end; most frames fit into it whole, so that one wake-up takes a frame."""
    pair = socket.socketpair()
    for end in pair:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)  # the system may allow less
    return pair


class Link(asyncio.Protocol):
    """What one worker holds, and the way to it.

    Args:
        page: Where the worker counts what it has begun.
        on_message: Called with every message the worker sends.
        on_closed: Called once, when the socket is closed from either side.
        on_busy: Called with the microseconds a worker has computed.
        slot: The front's word in the page.
    """

    def __init__(
        self,
        page: Page,
        on_message: "Callable[[Link, Message], None]",
        on_closed: "Callable[[Link], None]",
        on_busy: Callable[[int], None],
        slot: int = 0,
    ) -> None:
        self.page = page
        self.slot = slot
        self.in_flight: dict[int, Request] = {}
        self.sent = 0
        self.service_s = 0.0
        self.retiring = False
        self.on_message = on_message
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
            held, on_message = len(self.in_flight), self.on_message
            for message in messages:
                on_message(self, message)
            ended = held - len(self.in_flight)
            if ended > 0:
                sample = busy_us / 1e6 / ended
                self.service_s += EWMA * (sample - self.service_s) if self.service_s else sample

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
        frame: list[Message] = []
        size = 0
        for request in requests:
            self.sent += 1
            request.sequence = self.sent
            id = request.id
            self.in_flight[id] = request
            kind, body = request.kind, request.body
            if not isinstance(body, bytes):
                kind, body = (_SLAB, body.descriptor) if kind == _REQUEST else (kind, bytes(body))
            if frame and size + len(body) > FRAME_PAYLOAD_BYTES:
                self._write(frame)
                frame, size = [], 0
            if request.meta is not None:
                frame.append((id, _META, request.meta))
            frame.append((id, kind, body))
            size += len(body)
        self._write(frame)

    def send_control(self, id: int, kind: int, payload: bytes = b"") -> None:
        """CANCEL, PAUSE or RESUME a request, or pass on DATA, CLOSE or a RESULT."""
        self._write([(id, kind, payload)])

    def has_begun(self, request: "Request") -> bool:
        """Whether the worker has touched this request."""
        return request.sequence <= self.page.started_of(self.slot)

    def hangs_with(self, request: "Request") -> bool:
        """Whether the worker computes this request, or begins nothing although it has nothing else to do.

        What it does for another front is not to be seen here; then it has the benefit of the doubt.
        """
        if self.has_begun(request):
            return True
        return not (self.page.serves_others(self.slot) or any(map(self.has_begun, self.in_flight.values())))

    def close(self) -> None:
        """End the worker: it exits when its socket closes."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Drop the socket of a worker that has ended."""
        if self._transport is not None:
            self._transport.abort()

    def _write(self, messages: list[Message]) -> None:
        if self._transport is not None:
            self._transport.write(encode(messages))
