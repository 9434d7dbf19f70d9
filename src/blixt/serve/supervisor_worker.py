"""One worker process as its supervisor holds it: spawned, watched, ended."""

import asyncio
import dataclasses
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.context import SpawnProcess

from blixt.serve.link import Link, socket_pair
from blixt.serve.page import Page
from blixt.serve.wire import Kind, Message
from blixt.serve.worker.main import INHERITED_SIGNALS, WorkerSpec, main

LAST_WORDS_S = 0.05  # between a process's end and the closing of its socket, to read what it still sent


@dataclasses.dataclass(slots=True)
class Listener:
    """Who hears from a worker: its hub, and its pool."""

    on_message: Callable[[Link, Message], None]
    on_closed: Callable[[Link], None]
    on_busy: Callable[[int], None]
    on_ready: Callable[["Worker"], None]


class Worker:
    """One process and its ties to this one: link, lifeline, page, and a door for further fronts.

    Args:
        spec: What it is told; its sockets and page are made here.
        listener: Who hears from it.
        stop_s: How long it may take to end after it was asked.
        has_door: Whether further fronts will be sent to it.
    """

    def __init__(
        self, spec: Callable[..., WorkerSpec], listener: Listener, stop_s: float, *, has_door: bool = False
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._stop_s = stop_s
        self.report: str | None = None
        self.started_at = self._loop.time()
        self.ready_at: float | None = None
        self.ready = asyncio.Event()
        self.ended = asyncio.Event()
        self.tired = asyncio.Event()
        self.page = Page.create()
        self.door: socket.socket | None = None
        self.link = Link(self.page, self._on_message, self._on_closed, listener.on_busy)
        self._front, worker_end = socket_pair()
        self._lifeline, lifeline_end = socket.socketpair()
        door_end = None
        if has_door:
            self.door, door_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        told = spec(sock=worker_end, lifeline=lifeline_end, page=self.page, door=door_end)
        self.index, self.device = told.index, told.device
        try:
            name = f"blixt-worker-{told.index}"
            context = multiprocessing.get_context("spawn")
            self.process: SpawnProcess = context.Process(target=main, args=(told,), name=name)
            self._start_with_signals_blocked()
        except BaseException:
            self._front.close()
            self._release()
            raise
        finally:
            for end in (worker_end, lifeline_end, door_end):
                if end is not None:
                    end.close()
        self.pid = self.process.pid
        self.exit_code: int | None = None
        self._loop.add_reader(self.process.sentinel, self._on_exit)

    async def connect(self) -> None:
        """Tie the socket to the event loop."""
        await self._loop.create_unix_connection(lambda: self.link, sock=self._front)

    async def stop(self, patience_s: float) -> None:
        """Ask the process to end by closing its socket; kill it if it does not."""
        self.link.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self.ended.wait()
        if not self.ended.is_set():
            self.kill()
            await self.ended.wait()
        self._release()

    def kill(self) -> None:
        """End the process at once."""
        if self.exit_code is None:
            self.process.kill()

    @property
    def begun(self) -> int:
        """How many requests it has begun, for all fronts together."""
        slots = range(1) if self.door is None else range(64)
        return sum(self.page.started_of(slot) for slot in slots)

    @property
    def memory_bytes(self) -> int:
        """Resident memory; 0 where the system has no `/proc`."""
        try:
            with open(f"/proc/{self.pid}/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:
            return 0

    @property
    def ending(self) -> str:
        """How it ended, as a clause."""
        code = self.exit_code
        if code is not None and code < 0:
            return f"by signal {signal.Signals(-code).name}"
        return f"with exit code {code}"

    def _start_with_signals_blocked(self) -> None:
        # The child inherits the mask and lifts it once it ignores these signals: Ctrl-C during its imports
        # would otherwise print a traceback and end it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, INHERITED_SIGNALS)
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _on_message(self, link: Link, message: Message) -> None:
        kind, payload = message[1], message[2]
        if kind == Kind.READY:
            self.ready_at = self._loop.time()
            self.ready.set()
            self.link.on_message = self._listener.on_message  # all that comes now is about requests
            self._listener.on_ready(self)
        elif kind == Kind.FAILED:
            self.report = payload.decode(errors="replace")
            self._end_soon()
        else:
            self._listener.on_message(link, message)

    def _on_closed(self, link: Link) -> None:
        self._listener.on_closed(link)
        self._end_soon()

    def _end_soon(self) -> None:
        """It should be exiting; a thread of the user's that goes on must not keep it."""
        self._loop.call_later(self._stop_s, self.kill)

    def _on_exit(self) -> None:
        self._loop.remove_reader(self.process.sentinel)
        self.process.join()
        self.exit_code = self.process.exitcode
        self.process.close()  # its pipes would stay open until the garbage collector comes by
        # A child of the worker may hold its socket open, so do not wait for the end of the stream.
        self._loop.call_later(LAST_WORDS_S, self._on_last_words)

    def _on_last_words(self) -> None:
        self.link.abort()
        self.ended.set()
        self.ready.set()

    def _release(self) -> None:
        self._lifeline.close()
        if self.door is not None:
            self.door.close()
        self.page.close()
