"""Who is connected, what they said last, and how to ask them for something."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blixt.cloud.agent import Channel, ChannelClosed, Mux, RemoteError
from blixt.cloud.agent.mux import Send
from blixt.cloud.hub.logs import LogStore
from blixt.cloud.hub.stream import ChannelStream

DIAL_WAIT_S = 5.0
DIAL_TIMEOUT_S = 10.0
LOG_RETRY_S = 2.0

log = logging.getLogger("blixt.hub")


class AgentGone(Exception):
    """The allocation's agent is not connected right now."""


@dataclass(frozen=True)
class Attached:
    """The allocation behind a connection."""

    id: str
    uid: str
    kind: str
    part: str
    attempt: int

    def log_part(self, process: str) -> str:
        """Under which part a process's log is kept: a job's by rank, everybody else's by allocation."""
        return process if self.kind == "job" else self.part


@dataclass
class Connection:
    """One agent's connection."""

    attached: Attached
    mux: Mux
    state: dict[str, Any] | None = None
    pumps: dict[str, asyncio.Task[None]] = field(default_factory=dict[str, asyncio.Task[None]])

    @property
    def configured(self) -> bool:
        """Whether the agent was given its environment."""
        return bool(self.state and self.state.get("configured"))

    @property
    def processes(self) -> dict[str, dict[str, Any]]:
        """The agent's main processes and their exits."""
        return dict(self.state.get("processes", {})) if self.state else {}


class Hub:
    """The agents that are connected to this server.

    Args:
        logs: Where logs are kept.
        wake: Called with an object's uid when something about its allocations changed.
        clock: Returns monotonic seconds.
    """

    def __init__(
        self, logs: LogStore, wake: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logs = logs
        self._wake = wake
        self._clock = clock
        self._connections: dict[str, Connection] = {}
        self._gone_at: dict[str, float] = {}
        self._active_at: dict[str, float] = {}
        self._started_at = clock()
        self._arrivals = asyncio.Event()

    async def serve(self, attached: Attached, send: Send, messages: AsyncIterator[bytes]) -> None:
        """Run one agent's connection until it ends; a newer one of the same agent replaces it."""
        mux = Mux(send, on_note=lambda note: self._on_note(connection, note))
        connection = Connection(attached, mux)
        old = self._connections.get(attached.id)
        if old is not None:
            self._drop(old)
        self._connections[attached.id] = connection
        try:
            async for message in messages:
                mux.receive(message)
        finally:
            self._drop(connection)
            if self._connections.get(attached.id) is connection:
                del self._connections[attached.id]
                self._gone_at[attached.id] = self._clock()
            self._wake(attached.uid)

    def connection(self, allocation: str) -> Connection | None:
        """The agent's connection once it has reported its state, else None."""
        found = self._connections.get(allocation)
        return found if found is not None and found.state is not None else None

    def gone_for_s(self, allocation: str) -> float:
        """How long the agent has been away; an agent never seen counts from this server's start."""
        if allocation in self._connections:
            return 0.0
        return self._clock() - self._gone_at.get(allocation, self._started_at)

    def idle_for_s(self, allocation: str) -> float:
        """How long ago somebody last used the allocation."""
        connection = self._connections.get(allocation)
        if connection is not None and connection.mux.open_channels > len(connection.pumps):
            return 0.0
        return self._clock() - self._active_at.get(allocation, self._started_at)

    def forget(self, allocation: str) -> None:
        """Drop what is remembered of an allocation that ended."""
        self._gone_at.pop(allocation, None)
        self._active_at.pop(allocation, None)
        connection = self._connections.pop(allocation, None)
        if connection is not None:
            self._drop(connection)

    async def call(self, allocation: str, op: str, timeout_s: float, **params: Any) -> Any:
        """Run an operation on the agent and return its result.

        Raises:
            AgentGone: The agent is not connected, went away, or did not answer in time.
            RemoteError: The operation failed.
        """
        connection = self._required(allocation)
        try:
            async with asyncio.timeout(timeout_s):
                return await connection.mux.call(op, params)
        except ChannelClosed as error:
            raise AgentGone(str(error)) from error
        except TimeoutError as error:
            raise AgentGone(f"the agent did not finish {op!r} in {timeout_s:.0f} s") from error

    async def open(self, allocation: str, op: str, **params: Any) -> Channel:
        """Start an operation and return its channel.

        Raises:
            AgentGone: The agent is not connected.
        """
        connection = self._required(allocation)
        self._active_at[allocation] = self._clock()
        try:
            return await connection.mux.open(op, params)
        except ChannelClosed as error:
            raise AgentGone(str(error)) from error

    async def dial(self, allocation: str, port: int) -> ChannelStream:
        """Connect to a port inside an allocation.

        Just after a server's start the agent may still be on its way back: it is waited for.

        Raises:
            ConnectionError: The agent is gone, or nothing listens there.
        """
        try:
            if self.connection(allocation) is None:
                async with asyncio.timeout(DIAL_WAIT_S):
                    await self._wait_for(allocation)
            channel = await self.open(allocation, "dial", port=port)
            connected = asyncio.Event()
            channel.on_note = lambda _: connected.set()
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                await channel.opened(connected)
        except (AgentGone, RemoteError, ChannelClosed, TimeoutError) as error:
            raise ConnectionError(f"cannot reach port {port}: {error}") from error
        return ChannelStream(channel)

    def log_complete(self, allocation: Attached, process: str, size: int) -> bool:
        """Whether all the bytes that a process wrote have arrived here."""
        return self._logs.size(allocation.uid, allocation.log_part(process), allocation.attempt) >= size

    def close(self) -> None:
        """End every connection; the agents will dial again."""
        for connection in list(self._connections.values()):
            self._drop(connection)
        self._connections.clear()

    def _required(self, allocation: str) -> Connection:
        connection = self.connection(allocation)
        if connection is None:
            raise AgentGone("its agent is not connected")
        return connection

    async def _wait_for(self, allocation: str) -> None:
        while self.connection(allocation) is None:
            self._arrivals.clear()
            await self._arrivals.wait()

    def _on_note(self, connection: Connection, note: dict[str, Any]) -> None:
        state = note.get("state")
        if not isinstance(state, dict):
            return
        first = connection.state is None
        connection.state = state
        for process, found in connection.processes.items():
            self._pump(connection, process, found)
        if first:
            self._arrivals.set()
        self._wake(connection.attached.uid)

    def _pump(self, connection: Connection, process: str, found: dict[str, Any]) -> None:
        """Start copying a process's log, unless that runs already or everything is here."""
        if process in connection.pumps:
            return
        complete = found["exit"] is not None and self.log_complete(
            connection.attached, process, int(found["log_bytes"])
        )
        if not complete:
            connection.pumps[process] = asyncio.ensure_future(self._copy_log(connection, process))

    async def _copy_log(self, connection: Connection, process: str) -> None:
        """Append from where our file ends until the agent says that was all; a full disk only delays it."""
        attached = connection.attached
        part = attached.log_part(process)
        file = self._logs.file(attached.uid, part, attached.attempt)
        try:
            while True:
                try:
                    await self._append(connection, process, file)
                    break
                except OSError as error:
                    log.error("the log %s cannot be written: %s", file, error)
                    await asyncio.sleep(LOG_RETRY_S)
        except (ChannelClosed, RemoteError):
            return  # the next connection goes on from the file's end
        finally:
            connection.pumps.pop(process, None)
        self._wake(attached.uid)

    async def _append(self, connection: Connection, process: str, file: Path) -> None:
        with open(file, "ab", buffering=0) as out:
            channel = await connection.mux.open("log", {"process": process, "offset": out.tell()})
            try:
                while (piece := await channel.read()) is not None:
                    out.write(piece[1])
                    self._logs.grew(connection.attached.uid)
                await channel.result()
            finally:
                await channel.cancel()

    def _drop(self, connection: Connection) -> None:
        connection.mux.close()
        for pump in list(connection.pumps.values()):
            pump.cancel()
