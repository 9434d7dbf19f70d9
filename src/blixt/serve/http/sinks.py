"""Who waits in the front for a request's messages: for one answer, or for a stream of pieces."""

import asyncio
from collections import deque

from blixt.serve.http.exchange import ClientGone
from blixt.serve.hub import Hub
from blixt.serve.request import Request

Item = tuple[int, bytes]
HIGH_WATER = 64


class AnswerSink:
    """Waits for one final message."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[Item] = asyncio.get_running_loop().create_future()

    def deliver(self, kind: int, payload: bytes) -> None:
        """Hub: the answer is here."""
        if not self.answer.done():
            self.answer.set_result((kind, payload))

    def leave(self) -> None:
        """The client has gone: wake the waiter with `ClientGone`."""
        if not self.answer.done():
            self.answer.set_exception(ClientGone())


class StreamSink:
    """A bounded buffer of pieces: when it is full the worker's generator is held until it is read."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._items: deque[Item] = deque()
        self._wakeup = asyncio.Event()
        self._held = False
        self._gone = False
        self._request: Request | None = None

    def attach(self, request: Request) -> None:
        """The request whose messages come here."""
        self._request = request

    def deliver(self, kind: int, payload: bytes) -> None:
        """Hub: the next message."""
        self._items.append((kind, payload))
        self._wakeup.set()
        if len(self._items) >= HIGH_WATER and not self._held and self._request is not None:
            self._held = True
            self._hub.pause(self._request)

    def leave(self) -> None:
        """The client has gone: stop the generator and wake the reader with `ClientGone`."""
        self._gone = True
        self.cancel()
        self._wakeup.set()

    def cancel(self) -> None:
        """Stop the generator, unless it has ended."""
        if self._request is not None:
            self._hub.cancel(self._request)

    async def next(self) -> list[Item]:
        """All messages since the last call, at least one; the hub's deadline bounds the wait.

        Raises:
            ClientGone: Nobody reads any more.
        """
        while not self._items and not self._gone:
            self._wakeup.clear()
            await self._wakeup.wait()
        if self._gone:
            raise ClientGone
        items = list(self._items)
        self._items.clear()
        if self._held and self._request is not None:
            self._held = False
            self._hub.resume(self._request)
        return items


def submit_stream(hub: Hub, body: bytes) -> StreamSink:
    """Admit a request whose pieces will be read as they come.

    Raises:
        Rejected: As `Hub.submit`.
    """
    sink = StreamSink(hub)
    sink.attach(hub.submit(body, sink))
    return sink
