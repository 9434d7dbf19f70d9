"""Many channels over one connection, each with its own credit, so a slow reader stops only its own sender.

A sender starts with `WINDOW_BYTES` of credit and waits when it is used up; a receiver hands credit back as it
consumes. So at most a window per channel is ever buffered, on either side.
"""

import asyncio
import collections
from collections.abc import Awaitable, Callable
from typing import Any

from blixt.cloud.agent.protocol import (
    CHUNK_BYTES,
    SESSION,
    WINDOW_BYTES,
    Frame,
    Kind,
    ProtocolError,
    decode,
    json_frame,
    number_frame,
)

Send = Callable[[bytes], Awaitable[None]]
OnOpen = Callable[["Channel", dict[str, Any]], Awaitable[Any]]
OnNote = Callable[[dict[str, Any]], None]
RETURN_CREDIT_BYTES = WINDOW_BYTES // 4


class ChannelClosed(Exception):
    """The connection went away, or the other side ended the operation."""


class RemoteError(Exception):
    """The operation failed on the other side; the message is its sentence, `code` its class."""

    def __init__(self, message: str, code: str = "failed") -> None:
        super().__init__(message)
        self.code = code


class Channel:
    """One operation's two-way flow of bytes; made by `Mux`, never directly."""

    def __init__(self, mux: "Mux", number: int) -> None:
        self._mux = mux
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
            await self._mux.send(Frame(kind, self.number, bytes(piece)))

    async def write_eof(self) -> None:
        """Say that no more bytes will come from this side."""
        if self._end is None:
            await self._mux.send(Frame(Kind.EOF, self.number))

    async def note(self, message: dict[str, Any]) -> None:
        """Send a message beside the bytes."""
        if self._end is None:
            await self._mux.send(json_frame(Kind.NOTE, self.number, message))

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
            await self._mux.send(number_frame(Kind.CREDIT, self.number, consumed))
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
        self._mux.forget(self)
        try:
            await self._mux.send(json_frame(Kind.END, self.number, outcome))
        except ChannelClosed:
            return


class Mux:
    """The channels of one connection.

    Args:
        send: Sends one message; may wait (back-pressure of the connection as a whole).
        on_open: Runs an operation that the other side opened; its return value is the result.
        on_note: Called with the session's own notes.
    """

    def __init__(self, send: Send, on_open: OnOpen | None = None, on_note: OnNote | None = None) -> None:
        self._send = send
        self._on_open = on_open
        self._on_note = on_note
        self._channels: dict[int, Channel] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._next = 1
        self._closed = False

    async def open(self, op: str, params: dict[str, Any]) -> Channel:
        """Start an operation on the other side."""
        channel = Channel(self, self._next)
        self._next += 1
        self._channels[channel.number] = channel
        await self.send(json_frame(Kind.OPEN, channel.number, {"op": op, **params}))
        return channel

    async def call(self, op: str, params: dict[str, Any]) -> Any:
        """Start an operation and wait for its result."""
        channel = await self.open(op, params)
        try:
            return await channel.result()
        except asyncio.CancelledError:
            await channel.cancel()
            raise

    @property
    def open_channels(self) -> int:
        """How many operations run."""
        return len(self._channels)

    async def note(self, message: dict[str, Any]) -> None:
        """Send a note of the session itself."""
        await self.send(json_frame(Kind.NOTE, SESSION, message))

    async def send(self, frame: Frame) -> None:
        """Send one frame.

        Raises:
            ChannelClosed: The connection is gone.
        """
        if self._closed:
            raise ChannelClosed("the connection is gone")
        try:
            await self._send(frame.encode())
        except Exception as error:  # whatever the transport raises, to a channel it is the same news
            raise ChannelClosed(f"the connection broke: {error}") from error

    def receive(self, message: bytes) -> None:
        """Take in one message from the connection.

        Raises:
            ProtocolError: It is no frame.
        """
        frame = decode(message)
        if frame.channel == SESSION:
            if frame.kind is Kind.NOTE and self._on_note is not None:
                self._on_note(frame.json())
            return
        if frame.kind is Kind.OPEN:
            self._accept(frame)
            return
        channel = self._channels.get(frame.channel)
        if channel is None:
            return  # late frames of an operation that is over on this side
        channel.receive(frame)
        if frame.kind is Kind.END:
            self.forget(channel)
            task = self._tasks.get(frame.channel)
            if task is not None:
                task.cancel()

    def forget(self, channel: Channel) -> None:
        """Drop a channel that is over."""
        self._channels.pop(channel.number, None)

    def close(self) -> None:
        """The connection is gone: end every channel, cancel what runs here for the other side."""
        self._closed = True
        for channel in list(self._channels.values()):
            channel.end({"error": "the connection was lost", "code": "lost"})
        self._channels.clear()
        for task in list(self._tasks.values()):
            task.cancel()

    def _accept(self, frame: Frame) -> None:
        if self._on_open is None:
            raise ProtocolError("This side accepts no operations.")
        channel = Channel(self, frame.channel)
        self._channels[frame.channel] = channel
        task = asyncio.ensure_future(self._run(channel, frame.json()))
        self._tasks[frame.channel] = task
        task.add_done_callback(lambda _: self._tasks.pop(frame.channel, None))

    async def _run(self, channel: Channel, params: dict[str, Any]) -> None:
        assert self._on_open is not None
        try:
            result = await self._on_open(channel, params)
        except ChannelClosed:
            channel.end({"error": "the connection was lost", "code": "lost"})
        except RemoteError as error:
            await channel.fail(str(error), error.code)
        except Exception as error:  # an operation's failure is the caller's to see, not the agent's end
            await channel.fail(f"{type(error).__name__}: {error}")
        else:
            await channel.finish(result)
