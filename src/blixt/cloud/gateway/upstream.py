"""Connections to workloads and to the API, reused while they stay clean.

An idle connection is watched: one that the other side closed, or that says something unasked, is dropped and
never handed out. Idle time is kept below the usual keep-alive of servers (5 s), so a request rarely races
a close.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from blixt.cloud.gateway.channel import Channel
from blixt.cloud.gateway.errors import BadUpstream, UpstreamLost
from blixt.cloud.gateway.heads import ResponseHead, parse_response
from blixt.cloud.gateway.limits import Limits
from blixt.cloud.gateway.routing import Target
from blixt.cloud.gateway.streams import HalfCloseStream, Stream


class DialError(Exception):
    """No connection to the target could be made; nothing was sent."""


class Upstream:
    """One connection to a target, with a place for bytes read too far."""

    def __init__(self, stream: Stream, target: Target) -> None:
        self.target = target
        self.reused = False
        self._stream = stream
        self._channel = stream if isinstance(stream, Channel) else None
        self._ahead = b""
        self._watch: asyncio.Task[bytes] | None = None

    def take(self) -> bytes:
        """What is there without waiting."""
        if self._channel is not None:
            return self._channel.take()
        data, self._ahead = self._ahead, b""
        return data

    async def read(self) -> bytes:
        """What comes next, b"" at the end."""
        if self._channel is not None:
            return await self._channel.read()
        if self._ahead:
            return self.take()
        if self._watch is not None:
            watch, self._watch = self._watch, None
            return await watch
        return await self._stream.read()

    def unread(self, data: bytes) -> None:
        """Put bytes back in front."""
        if self._channel is not None:
            self._channel.unread(data)
        elif data:
            self._ahead = data + self._ahead

    async def write(self, data: bytes) -> None:
        """Send, with back-pressure."""
        await self._stream.write(data)

    async def write_eof(self) -> bool:
        """End the sending direction, if this kind of stream can."""
        if isinstance(self._stream, HalfCloseStream):
            await self._stream.write_eof()
            return True
        return False

    async def close(self) -> None:
        """Drop the connection."""
        if self._watch is not None:
            self._watch.cancel()
        with contextlib.suppress(OSError):
            await self._stream.close()

    def park(self) -> bool:
        """Begin to watch an idle connection; False when it cannot be reused."""
        if self._channel is None and self._watch is None and not self._ahead:
            self._watch = asyncio.ensure_future(self._stream.read())
            self._watch.add_done_callback(_retrieve)
        return self.is_clean()

    def is_clean(self) -> bool:
        """Whether nothing came since the last response."""
        if self._channel is not None:
            return not (self._channel.at_eof or self._channel.waiting_bytes)
        return self._watch is not None and not self._watch.done() and not self._ahead


def _retrieve(task: asyncio.Task[bytes]) -> None:
    if not task.cancelled():
        task.exception()


Dial = Callable[[Target], Awaitable[Stream]]


class Pool:
    """Idle upstream connections by target, the most recently used first."""

    def __init__(self, dial: Dial, limits: Limits) -> None:
        self._dial = dial
        self._limits = limits
        self._idle: dict[Target, list[tuple[float, Upstream]]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def acquire(self, target: Target, *, fresh: bool = False) -> Upstream:
        """Return a connection, reused unless `fresh`.

        Raises:
            DialError: none could be made within `Limits.connect_s`.
        """
        idle = self._idle.get(target)
        while idle and not fresh:
            until, upstream = idle.pop()
            if until > time.monotonic() and upstream.is_clean():
                upstream.reused = True
                return upstream
            self.discard(upstream)
        try:
            async with asyncio.timeout(self._limits.connect_s):
                return Upstream(await self._dial(target), target)
        except (OSError, LookupError) as error:  # TimeoutError is an OSError
            raise DialError(str(error) or type(error).__name__) from error

    def release(self, upstream: Upstream) -> None:
        """Give a connection back after a complete exchange."""
        idle = self._idle.setdefault(upstream.target, [])
        if len(idle) < self._limits.upstream_idle_count and upstream.park():
            idle.append((time.monotonic() + self._limits.upstream_idle_s, upstream))
        else:
            self.discard(upstream)

    def discard(self, upstream: Upstream) -> None:
        """Drop a connection in the background."""
        task = asyncio.ensure_future(upstream.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def sweep(self) -> None:
        """Drop what was idle for too long or is no longer clean."""
        now = time.monotonic()
        for target, idle in list(self._idle.items()):
            kept = [entry for entry in idle if entry[0] > now and entry[1].is_clean()]
            for entry in idle:
                if entry not in kept:
                    self.discard(entry[1])
            if kept:
                self._idle[target] = kept
            else:
                del self._idle[target]

    async def close(self) -> None:
        """Drop everything."""
        for idle in self._idle.values():
            for _, upstream in idle:
                self.discard(upstream)
        self._idle.clear()
        while self._closing:
            await asyncio.wait(set(self._closing))


async def read_response_head(upstream: Upstream, limits: Limits) -> ResponseHead:
    """Read the next final response head (or 101); interim 1xx responses are dropped.

    Raises:
        UpstreamLost: the connection ended before any byte.
        BadUpstream: what came is not a response.
    """
    buffer = b""
    while True:
        try:
            data = await upstream.read()
        except ConnectionError:
            data = b""
        if not data:
            if buffer:
                raise BadUpstream("The workload's answer ended inside its headers.")
            raise UpstreamLost
        buffer += data
        end = buffer.find(b"\r\n\r\n")
        if end > limits.head_bytes or (end < 0 and len(buffer) > limits.head_bytes):
            raise BadUpstream("The headers of the workload's answer are too large.")
        if end >= 0:
            head = parse_response(buffer[:end])
            upstream.unread(buffer[end + 4 :])
            if head.status >= 200 or head.status == 101:
                return head
            buffer = b""
