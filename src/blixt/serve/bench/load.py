"""Rounds of load: who sends when, and what was seen."""

import asyncio
import ssl
import time
from collections import Counter
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from blixt.serve.bench.connection import Answer, Connection
from blixt.serve.errors import ConfigError

GRACE_S = 10.0
"""How long after a round its last answers may still come; what is missing then has failed."""
RECONNECT_S = 0.01
"""The pause of a client whose connection was refused."""
_OVER = -1.0


@dataclass(frozen=True, slots=True)
class Target:
    """What is sent, and where to.

    Args:
        url: The whole address of the route.
        body: The request's body.
        headers: More headers, names in lower case.
        method: HTTP method.
        uds: A unix socket to connect to in place of the URL's host.

    Raises:
        ConfigError: The URL is not http(s).
    """

    url: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    method: str = "POST"
    uds: str | None = None

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).hostname:
            raise ConfigError(f"{self.url!r} is not an address; give one like http://127.0.0.1:8000/predict.")

    @property
    def request(self) -> bytes:
        """The bytes of one request."""
        parts = urlsplit(self.url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"host": parts.netloc, "content-type": "application/json", **self.headers}
        lines = [f"{self.method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, f"content-length: {len(self.body)}", "", ""]).encode() + self.body

    async def connect(self) -> Connection:
        """Open one connection."""
        loop, parts, request = asyncio.get_running_loop(), urlsplit(self.url), self.request
        if self.uds is not None:
            return (await loop.create_unix_connection(lambda: Connection(request), self.uds))[1]
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        context = ssl.create_default_context() if secure else None
        made = loop.create_connection(lambda: Connection(request), parts.hostname or "", port, ssl=context)
        return (await made)[1]


@dataclass
class Round:
    """What a round saw. Times in seconds.

    Attributes:
        concurrency: Connections of a closed loop; the most that an open loop may open.
        rate: Requests a second of an open loop; None for a closed one.
        statuses: HTTP status -> count; 0 for answers that never came whole.
        latencies: Of good answers (status below 400), sorted at the end.
        first_pieces: Time to the first byte of each good answer.
        pieces: Events of all streams.
    """

    concurrency: int
    rate: float | None = None
    seconds: float = 0.0
    cpu_seconds: float | None = None
    statuses: Counter[int] = field(default_factory=Counter[int])
    latencies: list[float] = field(default_factory=list[float])
    first_pieces: list[float] = field(default_factory=list[float])
    pieces: int = 0

    def note(self, answer: Answer) -> None:
        """Count an answer."""
        self.statuses[answer.status] += 1
        if 0 < answer.status < 400:
            self.latencies.append(answer.done_at - answer.due)
            self.first_pieces.append(answer.first_byte_at - answer.due)
            self.pieces += answer.pieces


async def run_round(target: Target, concurrency: int, seconds: float, rate: float | None = None) -> Round:
    """Load the target for so many seconds.

    Args:
        target: What to send.
        concurrency: Connections; of an open loop the most that it may open.
        seconds: How long requests are begun; their answers may take `GRACE_S` more.
        rate: Requests a second, evenly spaced; None sends each connection's next when it has its answer.

    Raises:
        OSError: The first connection fails.
    """
    if concurrency < 1 or seconds <= 0 or (rate is not None and rate <= 0):
        raise ConfigError("concurrency, seconds and rate are numbers above 0.")
    load = _Load(target, Round(concurrency, rate), seconds)
    await load.run()
    return load.round


class _Load:
    """A round under way: clients, and what they have to send."""

    def __init__(self, target: Target, seen: Round, seconds: float) -> None:
        self.round = seen
        self._target = target
        self._seconds = seconds
        self._until = 0.0
        self._due: asyncio.Queue[float] = asyncio.Queue()
        self._waiting = 0
        self._clients: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """The whole round; requests without an answer at its end count as lost."""
        seen, first = self.round, await self._target.connect()
        began = time.perf_counter()
        self._until = began + self._seconds
        if seen.rate is None:
            self._start(self._closed(first))
            for _ in range(seen.concurrency - 1):
                self._start(self._closed(None))
        else:
            self._start(self._open(first))
            await self._arrive(began, seen.rate)
        left = max(0.0, self._until - time.perf_counter()) + GRACE_S
        done, late = await asyncio.wait(self._clients, timeout=left)
        for client in late:
            client.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        for client in done:
            client.result()
        never_sent = sum(due != _OVER for due in _drained(self._due))
        if never_sent:
            seen.statuses[0] += never_sent
        seen.seconds = time.perf_counter() - began
        seen.latencies.sort()
        seen.first_pieces.sort()

    def _start(self, client: Coroutine[Any, Any, None]) -> None:
        self._clients.add(asyncio.create_task(client))

    async def _arrive(self, began: float, rate: float) -> None:
        """Make requests due, evenly spaced; more clients start while all are busy."""
        for number in range(max(1, int(self._seconds * rate))):
            due = began + number / rate
            pause_s = due - time.perf_counter()
            if pause_s > 0:
                await asyncio.sleep(pause_s)
            self._due.put_nowait(due)
            if self._due.qsize() > self._waiting and len(self._clients) < self.round.concurrency:
                self._start(self._open(None))
        for _ in self._clients:
            self._due.put_nowait(_OVER)

    async def _closed(self, connection: Connection | None) -> None:
        """A client that sends its next request when it has its answer."""
        try:
            while (now := time.perf_counter()) < self._until:
                connection = await self._send(connection, now)
        finally:
            _close(connection)

    async def _open(self, connection: Connection | None) -> None:
        """A client that sends what is due."""
        try:
            while True:
                self._waiting += 1
                try:
                    due = await self._due.get()
                finally:
                    self._waiting -= 1
                if due == _OVER:
                    return
                connection = await self._send(connection, due)
        finally:
            _close(connection)

    async def _send(self, connection: Connection | None, due: float) -> Connection | None:
        """Send one request, over a new connection when the last is gone, and count what became of it."""
        answer = Answer(due)
        try:
            if connection is None or not connection.usable:
                connection = await self._target.connect()
            answer = await connection.call(due)
        except OSError:
            await asyncio.sleep(RECONNECT_S)
        finally:
            self.round.note(answer)
        return connection


def _drained(queue: asyncio.Queue[float]) -> list[float]:
    return [queue.get_nowait() for _ in range(queue.qsize())]


def _close(connection: Connection | None) -> None:
    if connection is not None:
        connection.close()
