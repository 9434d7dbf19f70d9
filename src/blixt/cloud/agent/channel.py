"""One operation's channel: bytes both ways with credit, notes beside them, one end.

A sender starts with `WINDOW_BYTES` of credit and waits when it is used up; a receiver hands credit back as it
consumes. So at most a window per channel is ever buffered, on either side.
"""

import asyncio
import collections
from collections.abc import Callable
from typing import Any, Protocol

from blixt.cloud.agent.protocol import (
    CHUNK_BYTES,
    WINDOW_BYTES,
    Frame,
    Kind,
    ProtocolError,
    json_frame,
    number_frame,
)

OnNote = Callable[[dict[str, Any]], None]
RETURN_CREDIT_BYTES = WINDOW_BYTES // 4


class ChannelClosed(Exception):
    """The connection went away, or the other side ended the operation."""


class RemoteError(Exception):
    """The operation failed on the other side; the message is its sentence, `code` its class."""

    def __init__(self, message: str, code: str = "failed") -> None:
        super().__init__(message)
        self.code = code


class Wire(Protocol):
    """What a channel needs of the connection it runs over."""

    async def send(self, frame: Frame) -> None:
        """Send one frame."""
        ...

    def forget(self, channel: "Channel") -> None:
        """Drop a channel that is over."""
        ...


class Channel:
    """One operation's two-way flow of bytes; made by `Mux`, never directly."""

    def __init__(self, wire: Wire, number: int) -> None:
        self._wire = wire
        self.number = number
        self._inbox: collections.deque[tuple[Kind, bytes]] = collections.deque()
        self._arrived = asyncio.Event()
        self._credit = WINDOW_BYTES
        self._credit_arrived = asyncio.Event()
        self._consumed = 0
        self._buffered = 0
        self._remote_eof = False
        self._end: dict[str, Any] | None = None
        self._ended_event = asyncio.Event()
        self.on_note: OnNote | None = None

    async def write(self, data: bytes, kind: Kind = Kind.DATA) -> None:
        """Send bytes, waiting while the other side has not consumed what it has.

        Raises:
            ChannelClosed: The channel is over.
        """
        view = memoryview(data)
        while view:
            while self._credit <= 0:
                self._check_open()
                self._credit_arrived.clear()
                await self._credit_arrived.wait()
            self._check_open()
            piece = view[: min(CHUNK_BYTES, self._credit)]
            self._credit -= len(piece)
            view = view[len(piece) :]
            await self._wire.send(Frame(kind, self.number, bytes(piece)))

    async def write_eof(self) -> None:
        """Say that no more bytes will come from this side."""
        if self._end is None:
            await self._wire.send(Frame(Kind.EOF, self.number))

    async def note(self, message: dict[str, Any]) -> None:
        """Send a message beside the bytes."""
        if self._end is None:
            await self._wire.send(json_frame(Kind.NOTE, self.number, message))

    async def read(self) -> tuple[Kind, bytes] | None:
        """The next bytes and their kind (DATA or ERR), or None when no more will come."""
        while not self._inbox:
            if self._remote_eof or self._end is not None:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        kind, data = self._inbox.popleft()
        self._consumed += len(data)
        self._buffered -= len(data)
        if self._consumed >= RETURN_CREDIT_BYTES and self._end is None:
            consumed, self._consumed = self._consumed, 0
            await self._wire.send(number_frame(Kind.CREDIT, self.number, consumed))
        return kind, data

    async def result(self) -> Any:
        """Wait for the operation's end and return its result; unread bytes are thrown away.

        Raises:
            RemoteError: The operation failed on the other side.
            ChannelClosed: The connection went away first.
        """
        while await self.read() is not None:
            pass
        while self._end is None:
            self._arrived.clear()
            await self._arrived.wait()
        return self._outcome()

    async def finish(self, result: Any = None) -> None:
        """End the operation well."""
        await self._close({"result": result})

    async def fail(self, message: str, code: str = "failed") -> None:
        """End the operation with an error."""
        await self._close({"error": message, "code": code})

    async def cancel(self) -> None:
        """Tell the other side that nobody waits for this any more."""
        await self._close({"error": "cancelled", "code": "cancelled"})

    @property
    def ended(self) -> bool:
        """Whether the operation is over, for whichever reason."""
        return self._end is not None

    @property
    def lost(self) -> bool:
        """Whether it is over because the connection went away."""
        return self._end is not None and self._end.get("code") == "lost"

    async def opened(self, event: asyncio.Event) -> None:
        """Wait for an event that a note sets, or for the operation's end.

        Raises:
            RemoteError: The operation failed before that.
            ChannelClosed: The connection went away before that.
        """
        waiting = asyncio.ensure_future(event.wait())
        ending = asyncio.ensure_future(self._ended_event.wait())
        try:
            await asyncio.wait({waiting, ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            ending.cancel()
        if not event.is_set():
            self._outcome()

    def receive(self, frame: Frame) -> None:
        """Take in a frame of this channel.

        Raises:
            ProtocolError: The other side sent more than its credit.
        """
        if frame.kind in (Kind.DATA, Kind.ERR):
            self._buffered += len(frame.payload)
            if self._buffered > WINDOW_BYTES:
                raise ProtocolError(f"Channel {self.number} was sent more than its credit.")
            self._inbox.append((frame.kind, frame.payload))
            self._arrived.set()
        elif frame.kind is Kind.CREDIT:
            self._credit += frame.number()
            self._credit_arrived.set()
        elif frame.kind is Kind.EOF:
            self._remote_eof = True
            self._arrived.set()
        elif frame.kind is Kind.END:
            self.end(frame.json())
        elif frame.kind is Kind.NOTE and self.on_note is not None:
            self.on_note(frame.json())

    def end(self, outcome: dict[str, Any]) -> None:
        """Mark the channel over and wake everybody who waits on it."""
        if self._end is None:
            self._end = outcome
        self._arrived.set()
        self._credit_arrived.set()
        self._ended_event.set()

    def _outcome(self) -> Any:
        end = self._end or {}
        if "result" in end:
            return end["result"]
        message, code = str(end.get("error", "")), str(end.get("code", "failed"))
        if code in ("lost", "cancelled"):
            raise ChannelClosed(message)
        raise RemoteError(message, code)

    def _check_open(self) -> None:
        if self._end is not None:
            raise ChannelClosed(str(self._end.get("error", "the operation is over")))

    async def _close(self, outcome: dict[str, Any]) -> None:
        if self._end is not None:
            return
        self.end(outcome)
        self._wire.forget(self)
        try:
            await self._wire.send(json_frame(Kind.END, self.number, outcome))
        except ChannelClosed:
            return
