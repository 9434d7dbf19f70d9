"""Many channels over one connection; each has its own credit, so a slow reader stops only its own sender."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from blixt.cloud.agent.channel import Channel, ChannelClosed, OnNote, RemoteError
from blixt.cloud.agent.protocol import SESSION, Frame, Kind, ProtocolError, decode, json_frame

Send = Callable[[bytes], Awaitable[None]]
OnOpen = Callable[[Channel, dict[str, Any]], Awaitable[Any]]


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
