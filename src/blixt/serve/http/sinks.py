"""Who waits in the front for a request's messages: for one answer, or for streams of pieces."""

import asyncio
from collections import deque
from typing import Any, Protocol

from blixt.serve.http.exchange import ClientGone
from blixt.serve.http.meta import PLAIN, Submission
from blixt.serve.request import Sink
from blixt.serve.wire import FINAL, Kind

Item = tuple[int, int, bytes]
"""`(which request, kind, payload)`."""
HIGH_WATER = 64


class AnyHub(Protocol):
    """What a lane needs of an API's hub, be it one pool's or a pipeline's; the hub knows its own tickets."""

    draining: bool

    def submit(
        self,
        body: bytes,
        sink: Sink,
        *,
        priority: int = 0,
        timeout_s: float | None = None,
        meta: bytes | None = None,
        kind: int = Kind.REQUEST,
    ) -> Any:
        """Admit a request and return its ticket."""
        ...

    def cancel(self, request: Any, /) -> None:
        """Nobody waits any more."""
        ...

    def pause(self, request: Any, /) -> None:
        """The reader is behind."""
        ...

    def resume(self, request: Any, /) -> None:
        """The reader has caught up."""
        ...

    def send(self, request: Any, /, kind: int, payload: bytes = b"") -> None:
        """Pass a websocket message on."""
        ...


class AnswerSink:
    """Waits for one final message."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()

    def deliver(self, kind: int, payload: bytes) -> None:
        """Hub: the answer is here."""
        if not self.answer.done():
            self.answer.set_result((kind, payload))

    def leave(self) -> None:
        """The client has gone: wake the waiter with `ClientGone`."""
        if not self.answer.done():
            self.answer.set_exception(ClientGone())


class StreamSink:
    """A bounded buffer of the pieces of one or several requests.

    When it is full the workers' generators are held until it is read.

    Args:
        hub: Where the requests go.
        keep_alive_s: `next` returns nothing after so long a silence; 0: it waits for ever.
    """

    def __init__(self, hub: AnyHub, keep_alive_s: float = 0.0) -> None:
        self._hub = hub
        self._items: deque[Item] = deque()
        self._wakeup = asyncio.Event()
        self._held = False
        self._gone = False
        self._requests: list[Any] = []
        self._live = 0
        self._keep_alive_s = keep_alive_s
        self._fed = False
        self._quiet = False
        self._timer: asyncio.TimerHandle | None = None
        if keep_alive_s:
            self._timer = asyncio.get_running_loop().call_later(keep_alive_s, self._look)

    def submit(self, body: bytes, submission: Submission = PLAIN) -> None:
        """Admit a request whose pieces come here; the first one has the index 0.

        Raises:
            Rejected: As `Hub.submit`; requests admitted before are cancelled.
        """
        branch = _Branch(self, len(self._requests))
        try:
            request = self._hub.submit(
                body,
                branch,
                priority=submission.priority,
                timeout_s=submission.timeout_s,
                meta=submission.meta,
            )
        except BaseException:
            self.cancel()
            raise
        self._requests.append(request)
        self._live += 1

    @property
    def tickets(self) -> list[Any]:
        """The hub's tickets of what was submitted."""
        return self._requests

    @property
    def live(self) -> int:
        """How many requests will still send something that `next` has not returned."""
        return self._live

    def put(self, index: int, kind: int, payload: bytes) -> None:
        """A branch's next message."""
        self._items.append((index, kind, payload))
        self._fed = True
        self._wakeup.set()
        if len(self._items) >= HIGH_WATER and not self._held:
            self._held = True
            for request in self._requests:
                self._hub.pause(request)

    def leave(self) -> None:
        """The client has gone: stop the generators and wake the reader with `ClientGone`."""
        self._gone = True
        self.cancel()
        self._wakeup.set()

    def cancel(self) -> None:
        """Stop the generators that have not ended."""
        if self._timer is not None:
            self._timer.cancel()
        for request in self._requests:
            self._hub.cancel(request)

    async def next(self) -> list[Item]:
        """All messages since the last call; none after a silence. The hub's deadline bounds the wait.

        Raises:
            ClientGone: Nobody reads any more.
        """
        while not self._items and not self._gone and not self._quiet:
            self._wakeup.clear()
            await self._wakeup.wait()
        if self._gone:
            raise ClientGone
        self._quiet = False
        items = list(self._items)
        self._items.clear()
        self._live -= sum(kind in FINAL for _, kind, _ in items)
        if self._held:
            self._held = False
            for request in self._requests:
                self._hub.resume(request)
        return items

    def _look(self) -> None:
        """Once in a while: has anything come since?"""
        self._quiet = not self._fed
        self._fed = False
        if self._quiet:
            self._wakeup.set()
        self._timer = asyncio.get_running_loop().call_later(self._keep_alive_s, self._look)


class _Branch:
    """One request's sink, inside a `StreamSink`."""

    __slots__ = ("_index", "_sink")

    def __init__(self, sink: StreamSink, index: int) -> None:
        self._sink = sink
        self._index = index

    def deliver(self, kind: int, payload: bytes) -> None:
        """Hub: the next message."""
        self._sink.put(self._index, kind, payload)
