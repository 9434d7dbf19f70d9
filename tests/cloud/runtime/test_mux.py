"""Channels over one connection: credit, ends, errors, and what a broken connection does to them."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blixt.cloud.agent import Channel, ChannelClosed, Mux, RemoteError, protocol
from blixt.cloud.agent.protocol import WINDOW_BYTES, Frame, Kind, ProtocolError

pytestmark = pytest.mark.anyio


class Pair:
    """Two muxes joined by two queues."""

    def __init__(self, serve: Any) -> None:
        self._to_right: asyncio.Queue[bytes] = asyncio.Queue()
        self._to_left: asyncio.Queue[bytes] = asyncio.Queue()
        self.notes: list[dict[str, Any]] = []
        self.left = Mux(self._to_right.put, on_note=self.notes.append)
        self.right = Mux(self._to_left.put, on_open=serve)
        self._movers = [
            asyncio.create_task(self._move(self._to_right, self.right)),
            asyncio.create_task(self._move(self._to_left, self.left)),
        ]

    async def _move(self, queue: "asyncio.Queue[bytes]", to: Mux) -> None:
        while True:
            to.receive(await queue.get())

    def cut(self) -> None:
        for mover in self._movers:
            mover.cancel()
        self.left.close()
        self.right.close()


async def test_a_call_returns_the_operations_result() -> None:
    async def serve(channel: Channel, params: dict[str, Any]) -> Any:
        return {"got": params["value"]}

    pair = Pair(serve)
    assert await pair.left.call("echo", {"value": 7}) == {"got": 7}
    pair.cut()


async def test_a_failing_operation_raises_at_the_caller() -> None:
    async def serve(channel: Channel, params: dict[str, Any]) -> Any:
        raise RemoteError("no such thing", "not_found")

    pair = Pair(serve)
    with pytest.raises(RemoteError, match="no such thing") as failed:
        await pair.left.call("x", {})
    assert failed.value.code == "not_found"
    pair.cut()


async def test_a_sender_waits_for_a_reader_that_does_not_read() -> None:
    sent = 0

    async def serve(channel: Channel, params: dict[str, Any]) -> Any:
        nonlocal sent
        for _ in range(64):
            await channel.write(b"x" * 32768)
            sent += 32768

    pair = Pair(serve)
    channel = await pair.left.open("flood", {})
    for _ in range(200):
        await asyncio.sleep(0)
    assert sent <= WINDOW_BYTES
    total = 0
    while (piece := await channel.read()) is not None:
        total += len(piece[1])
    assert total == 64 * 32768
    pair.cut()


async def test_a_slow_channel_does_not_hold_up_another() -> None:
    async def serve(channel: Channel, params: dict[str, Any]) -> Any:
        if params["op"] == "flood":
            await channel.write(b"x" * (WINDOW_BYTES * 4))
        return "quick"

    pair = Pair(serve)
    stuck = await pair.left.open("flood", {})
    assert await asyncio.wait_for(pair.left.call("other", {}), 60) == "quick"
    await stuck.cancel()
    pair.cut()


async def test_a_lost_connection_ends_readers_and_writers() -> None:
    async def serve(channel: Channel, params: dict[str, Any]) -> Any:
        await channel.write(b"x" * (WINDOW_BYTES * 2))

    pair = Pair(serve)
    channel = await pair.left.open("flood", {})
    waiting = asyncio.create_task(channel.result())
    await asyncio.sleep(0)
    pair.cut()
    with pytest.raises(ChannelClosed):
        await waiting
    with pytest.raises(ChannelClosed):
        await channel.write(b"late")
    with pytest.raises(ChannelClosed):
        await pair.left.open("more", {})


async def test_cancelling_a_call_cancels_the_operation() -> None:
    cancelled = asyncio.Event()

    async def serve(channel: Channel, params: dict[str, Any]) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    pair = Pair(serve)
    call = asyncio.create_task(pair.left.call("wait", {}))
    for _ in range(10):
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait_for(cancelled.wait(), 60)
    pair.cut()


async def test_more_than_the_credit_is_a_protocol_error() -> None:
    async def serve(channel: Channel, params: dict[str, Any]) -> Any:
        await asyncio.Event().wait()

    pair = Pair(serve)
    channel = await pair.left.open("x", {})
    with pytest.raises(ProtocolError, match="more than its credit"):
        channel.receive(Frame(Kind.DATA, channel.number, b"x" * (WINDOW_BYTES + 1)))
    pair.cut()


async def test_notes_of_the_session_arrive() -> None:
    pair = Pair(None)
    await pair.right.note({"state": 1})
    for _ in range(10):
        await asyncio.sleep(0)
    assert pair.notes == [{"state": 1}]
    pair.cut()


@given(st.sampled_from(list(Kind)), st.integers(0, 2**32 - 1), st.binary(max_size=100))
def test_a_frame_is_read_as_it_was_written(kind: Kind, channel: int, payload: bytes) -> None:
    frame = Frame(kind, channel, payload)
    assert protocol.decode(frame.encode()) == frame


@given(st.binary(max_size=40))
def test_any_bytes_are_a_frame_or_a_protocol_error(message: bytes) -> None:
    try:
        frame = protocol.decode(message)
        frame.json()
        frame.number()
    except ProtocolError:
        return
