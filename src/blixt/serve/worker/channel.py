"""The worker's end of the socket: blocking reads, and answers gathered into frames."""

import socket
import time

from blixt.serve.page import Page
from blixt.serve.wire import FrameReader, Kind, Message, encode

FLUSH_AFTER_S = 0.0005


class FrontGone(Exception):
    """The front closed the socket: the worker has no reason to live on."""


class Channel:
    """Requests in, answers out.

    Args:
        sock: One end of a stream socket pair.
        page: Where the front reads how many requests were begun.
    """

    def __init__(self, sock: socket.socket, page: Page) -> None:
        self._sock = sock
        self._page = page
        self._reader = FrameReader()
        self._out: list[tuple[int, int, bytes]] = []
        self._started = 0
        self._flushed_at = time.monotonic()

    def receive(self, block: bool) -> list[list[Message]]:
        """The frames that have arrived; waits for at least one when `block`.

        Raises:
            FrontGone: The socket is closed.
        """
        while True:
            try:
                data = self._sock.recv(1 << 18, 0 if block else socket.MSG_DONTWAIT)
            except BlockingIOError:
                return []
            except ConnectionError:
                raise FrontGone from None
            if not data:
                raise FrontGone
            frames = self._reader.feed(data)
            if frames or not block:
                return [frame.messages for frame in frames]

    def begin(self, count: int = 1) -> None:
        """Note that the next `count` requests, in order of arrival, are being worked on."""
        self._started += count
        self._page.started = self._started

    def answer(self, id: int, kind: Kind, payload: bytes = b"") -> None:
        """Add an answer to the next frame."""
        self._out.append((id, kind, payload))

    def flush_if_slow(self) -> bool:
        """Send what is gathered if the last frame is long ago: slow models answer one by one."""
        slow = time.monotonic() - self._flushed_at > FLUSH_AFTER_S
        if slow:
            self.flush()
        return slow

    def flush(self) -> None:
        """Send what is gathered. The frame tells the time since the last one or since `rest`."""
        now = time.monotonic()
        if self._out:
            busy_us = int((now - self._flushed_at) * 1e6)
            try:
                self._sock.sendall(encode(self._out, busy_us))
            except ConnectionError:
                raise FrontGone from None
            self._out.clear()
        self._flushed_at = now

    def rest(self) -> None:
        """Start the clock of the next frame now: the time before was spent waiting."""
        self._flushed_at = time.monotonic()
