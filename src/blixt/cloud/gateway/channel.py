"""One socket with bounded memory both ways: the gateway's only asyncio.Protocol.

Received bytes wait in a list until `read` takes them all; beyond `high` bytes the socket is not read. Sent
bytes wait in the transport; beyond `high` bytes `drain` waits. Leaner than asyncio streams, since nothing is
copied into a joint buffer.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from typing import cast

_DEFAULT_HIGH = 256 * 1024


class Channel(asyncio.Protocol):
    """A connected socket as a `Stream`.

    Args:
        high: bytes that may wait in each direction.
        on_connected: called once, when the socket is ready.

    Attributes:
        peer: the other side's IP address, "" on a unix socket.
        at_eof: the peer sends no more.
        lost: the connection is over.
        congested: the send buffer is full; `drain` waits for room.
    """

    def __init__(
        self, high: int = _DEFAULT_HIGH, on_connected: "Callable[[Channel], object] | None" = None
    ) -> None:
        self._high = high
        self._on_connected = on_connected
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport  # set in connection_made, before anything else can happen
        self._received: list[bytes] = []
        self._received_bytes = 0
        self._reading_paused = False
        self._reader: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self.peer = ""
        self.at_eof = False
        self.lost = False
        self.congested = False
        self.on_eof: Callable[[], None] | None = None
        self.on_lost: Callable[[], None] | None = None

    # -- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport and bound its send buffer."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._high)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            self.peer = str(transport.get_extra_info("peername", ("",))[0])
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if hasattr(socket, "TCP_KEEPIDLE"):  # notice within two minutes that a silent peer is gone
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
        if self._on_connected is not None:
            self._on_connected(self)

    def data_received(self, data: bytes) -> None:
        """Queue what came, and stop reading the socket when too much waits."""
        self._received.append(data)
        self._received_bytes += len(data)
        if self._received_bytes >= self._high and not self._reading_paused and self._usable():
            self._reading_paused = True
            self._transport.pause_reading()
        self._wake_reader()

    def eof_received(self) -> bool:
        """Note the end of what the peer sends; sending may go on."""
        self.at_eof = True
        self._wake_reader()
        if self.on_eof is not None:
            self.on_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail whoever waits."""
        self.lost = self.at_eof = True
        self._error = exc
        self._wake_reader()
        self.resume_writing()
        if self.on_lost is not None:
            self.on_lost()

    def pause_writing(self) -> None:
        """The send buffer is full."""
        self.congested = True

    def resume_writing(self) -> None:
        """The send buffer has room again."""
        self.congested = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # -- what the gateway calls

    @property
    def waiting_bytes(self) -> int:
        """Bytes received and not yet read."""
        return self._received_bytes

    def take(self) -> bytes:
        """Return everything received so far without waiting; may be empty."""
        if not self._received:
            return b""
        data = self._received[0] if len(self._received) == 1 else b"".join(self._received)
        self._received.clear()
        self._received_bytes = 0
        if self._reading_paused and self._usable():
            self._reading_paused = False
            self._transport.resume_reading()
        return data

    def unread(self, data: bytes) -> None:
        """Put bytes back in front, to be read next."""
        if data:
            self._received.insert(0, data)
            self._received_bytes += len(data)

    async def read(self, n: int = 65536) -> bytes:
        """Return all that came (bounded by `high`, not by `n`), or b"" at the end."""
        while not self._received:
            if self._error is not None:
                raise ConnectionResetError("the connection broke") from self._error
            if self.at_eof:
                return b""
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        return self.take()

    def send(self, data: bytes) -> None:
        """Queue bytes to send; look at `congested` and `drain` afterwards."""
        if self._usable():
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the send buffer has room."""
        while self.congested and not self.lost:
            if self._drained is None or self._drained.done():
                self._drained = self._loop.create_future()
            await asyncio.shield(self._drained)
        if self.lost:
            raise ConnectionResetError("the connection is closed")

    async def write(self, data: bytes) -> None:
        """Send bytes, waiting while the send buffer is full."""
        self.send(data)
        if self.congested or self.lost:
            await self.drain()

    async def write_eof(self) -> None:
        """End the sending direction."""
        if self._usable() and self._transport.can_write_eof():
            self._transport.write_eof()

    def finish(self) -> None:
        """Close once what was sent is out."""
        self._transport.close()

    async def close(self) -> None:
        """Drop the connection at once."""
        self.abort()

    def reset(self) -> None:
        """Drop the connection so that the peer sees an error, never a clean end."""
        sock = self._transport.get_extra_info("socket")
        if sock is not None and self._usable() and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.abort()

    def abort(self) -> None:
        """Drop the connection and whatever waits to be sent."""
        self._transport.abort()

    def _usable(self) -> bool:
        return not self.lost and not self._transport.is_closing()

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


async def connect_tcp(host: str, port: int) -> Channel:
    """Open a TCP connection as a Stream.

    Raises:
        OSError: nothing listens there.
    """
    _, channel = await asyncio.get_running_loop().create_connection(Channel, host, port)
    return channel


async def connect_unix(path: str | os.PathLike[str]) -> Channel:
    """Open a unix socket as a Stream.

    Raises:
        OSError: nothing listens there.
    """
    _, channel = await asyncio.get_running_loop().create_unix_connection(Channel, os.fspath(path))
    return channel
