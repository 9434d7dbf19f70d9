"""One keep-alive connection of the load: sends a request, notes when its answer begins and ends."""

import asyncio
import time
from dataclasses import dataclass
from typing import cast

import httptools

PIECE = b"data:"


@dataclass(slots=True)
class Answer:
    """What became of one request. Times of `time.perf_counter`.

    Attributes:
        status: HTTP status; 0 when no whole answer came.
        due: When the request should have been sent.
        first_byte_at: When its answer began.
        done_at: When it ended.
        pieces: Events in it, when it is a stream.
    """

    due: float
    status: int = 0
    first_byte_at: float = 0.0
    done_at: float = 0.0
    pieces: int = 0


class Connection(asyncio.Protocol):
    """Sends one request at a time."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._done: asyncio.Future[None] | None = None
        self.usable = False

    async def call(self, due: float) -> Answer:
        """Send the request and wait until its answer is whole, or the connection lost."""
        assert self._transport is not None
        self._answer = answer = Answer(due)
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(self._request)
        await self._done
        return answer

    def close(self) -> None:
        """Drop the connection."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio: connected."""
        self._transport, self.usable = cast(asyncio.Transport, transport), True

    def data_received(self, data: bytes) -> None:
        """Asyncio: bytes of an answer."""
        if self._answer is not None and self._answer.first_byte_at == 0.0:
            self._answer.first_byte_at = time.perf_counter()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def on_body(self, body: bytes) -> None:
        """Httptools: a part of the body; the pieces of a stream are its `data:` lines."""
        if self._answer is not None:
            self._answer.pieces += body.count(PIECE)

    def on_message_complete(self) -> None:
        """Httptools: the answer is whole."""
        self.usable = self._parser.should_keep_alive()
        status, self._parser = self._parser.get_status_code(), httptools.HttpResponseParser(self)
        self._end(status)

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio: closed, by the server or by us."""
        self.usable = False
        self._end(0)

    def _end(self, status: int) -> None:
        if self._answer is None or self._done is None:
            return
        self._answer.status, self._answer.done_at = status, time.perf_counter()
        self._answer = None
        if not self._done.done():
            self._done.set_result(None)
