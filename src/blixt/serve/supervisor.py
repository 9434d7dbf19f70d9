"""Workers as processes: spawned, watched, started again with back-off, ended. No request passes here."""

import asyncio
import logging
import multiprocessing
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess

from blixt.serve.api import API
from blixt.serve.config import Limits
from blixt.serve.errors import SetupFailed
from blixt.serve.hub import Hub
from blixt.serve.link import Link
from blixt.serve.metrics import ApiMetrics
from blixt.serve.page import Page
from blixt.serve.wire import Kind, Message
from blixt.serve.worker.main import INHERITED_SIGNALS, WorkerSpec, main

LAST_WORDS_S = 0.05  # between a process's end and the closing of its socket, to read what it still sent
logger = logging.getLogger("blixt.serve")


class Worker:
    """One process and the front's three ties to it: link, lifeline, page."""

    def __init__(self, api: API, device: str, index: int, hub: Hub, stop_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._hub = hub
        self._stop_s = stop_s
        self.report: str | None = None
        self.ready_at: float | None = None
        self.ended = asyncio.Event()
        self.page = Page.create()
        self.link = Link(self.page, self._on_message, self._on_closed, hub.on_busy)
        self._front, worker_end = socket.socketpair()
        self._lifeline, lifeline_end = socket.socketpair()
        with worker_end, lifeline_end:
            spec = WorkerSpec(api, device, index, worker_end, lifeline_end, self.page)
            name = f"blixt-worker-{index}"
            self.process: SpawnProcess = multiprocessing.get_context("spawn").Process(
                target=main, args=(spec,), name=name
            )
            try:
                self._start_with_signals_blocked()
            except BaseException:
                self._front.close()
                self._release()
                raise
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
        if not self.ended.is_set() and self.process.is_alive():
            self.process.kill()

    def _start_with_signals_blocked(self) -> None:
        # The child inherits the mask and lifts it once it ignores these signals: Ctrl-C during its imports
        # would otherwise print a traceback and end it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, INHERITED_SIGNALS)
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _on_message(self, link: Link, message: Message) -> None:
        if message.kind == Kind.READY:
            self.ready_at = self._loop.time()
            self._hub.attach(link)
        elif message.kind == Kind.FAILED:
            self.report = message.payload.decode(errors="replace")
            self._end_soon()
        else:
            self._hub.on_message(link, message)

    def _on_closed(self, link: Link) -> None:
        self._hub.detach(link)
        self._end_soon()

    def _end_soon(self) -> None:
        """It should be exiting; a thread of the user's that goes on must not keep it."""
        self._loop.call_later(self._stop_s, self.kill)

    def _on_exit(self) -> None:
        self._loop.remove_reader(self.process.sentinel)
        self.process.join()
        # A child of the worker may hold its socket open, so do not wait for the end of the stream.
        self._loop.call_later(LAST_WORDS_S, self._on_last_words)

    def _on_last_words(self) -> None:
        self.link.abort()
        self.ended.set()

    def _release(self) -> None:
        self._lifeline.close()
        self.page.close()


@dataclass(frozen=True, slots=True)
class Ended:
    """How a worker's life went: seconds it was ready (None: never), why it ended, whether to try again."""

    ready_s: float | None
    reason: str
    hopeless: bool = False


class Pool:
    """The workers of one API, each slot tended by a task that starts it again.

    Args:
        api: What the workers run.
        devices: One entry a worker.
        limits: Back-off, deadlines.
        metrics: Counts restarts.
        on_fatal: Called once if set-up fails again and again and nobody else answers.
    """

    def __init__(
        self,
        api: API,
        devices: list[str],
        limits: Limits,
        metrics: ApiMetrics,
        on_fatal: Callable[[SetupFailed], None],
    ) -> None:
        self._api = api
        self._devices = devices
        self._limits = limits
        self._metrics = metrics
        self._on_fatal = on_fatal
        self._stopping = asyncio.Event()
        self._workers: dict[int, Worker] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.hub = Hub(api.policy(), limits, metrics, self._kill_hung)
        metrics.gauges["workers"] = lambda: len(devices)
        metrics.gauges["workers_ready"] = lambda: self.hub.workers_ready

    def start(self) -> None:
        """Start every worker; returns before they are ready."""
        for index, device in enumerate(self._devices):
            self._tasks.append(asyncio.create_task(self._tend(index, device)))

    async def stop(self, patience_s: float) -> None:
        """End every worker, by force after `patience_s`, and wait until it is gone."""
        self._stopping.set()
        await asyncio.gather(*(worker.stop(patience_s) for worker in self._workers.values()))
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.hub.close()

    @property
    def pids(self) -> list[int]:
        """Process ids of the live workers."""
        return [w.process.pid for w in self._workers.values() if w.process.pid and not w.ended.is_set()]

    async def _tend(self, index: int, device: str) -> None:
        """Keep one slot filled: level-triggered on the worker's end."""
        limits, failures, delay_s = self._limits, 0, 0.0
        while not self._stopping.is_set():
            ended = await self._run_one(index, device)
            if self._stopping.is_set():
                return
            failures = 0 if ended.ready_s is not None else failures + 1
            if ended.hopeless or (failures >= limits.max_setup_failures and not self.hub.workers_ready):
                self._give_up(ended.reason)
                return
            if ended.ready_s is not None and ended.ready_s > limits.stable_s:
                delay_s = 0.0
            logger.error("worker %d: %s; starting another", index, ended.reason)
            self._metrics.restarts += 1
            with suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._stopping.wait()
            delay_s = min(limits.max_backoff_s, max(limits.backoff_s, delay_s * 2))

    async def _run_one(self, index: int, device: str) -> "Ended":
        """Start a worker and wait until it has ended."""
        try:
            worker = Worker(self._api, device, index, self.hub, self._limits.stop_s)
        except OSError as error:
            return Ended(None, f"no process could be started: {error}")
        except Exception as error:
            # Pickling has no error class of its own: a lambda, a lock, a class inside a function all differ.
            name = type(self._api).__name__
            reason = f"{name} cannot be sent to a worker: {error}. Build such things in setup()."
            return Ended(None, reason, hopeless=True)
        self._workers[index] = worker
        await worker.connect()
        loop = asyncio.get_running_loop()
        watchdog = loop.call_later(self._limits.setup_timeout_s, self._kill_if_not_ready, worker)
        await worker.ended.wait()
        watchdog.cancel()
        await worker.stop(0)
        ready_s = None if worker.ready_at is None else loop.time() - worker.ready_at
        return Ended(ready_s, worker.report or f"it ended {_ending(worker)}")

    def _kill_if_not_ready(self, worker: Worker) -> None:
        if worker.ready_at is None:
            worker.report = f"setup took longer than {self._limits.setup_timeout_s:g} s."
            worker.kill()

    def _kill_hung(self, link: Link) -> None:
        for index, worker in self._workers.items():
            if worker.link is link:
                logger.error("worker %d hangs beyond timeout_s=%g, killing it", index, self._limits.timeout_s)
                worker.kill()

    def _give_up(self, reason: str) -> None:
        first = reason.splitlines()[0]
        self.hub.die(f"The service cannot start: {first}")
        self._on_fatal(SetupFailed(reason))


def _ending(worker: Worker) -> str:
    code = worker.process.exitcode
    if code is not None and code < 0:
        return f"by signal {signal.Signals(-code).name}"
    return f"with exit code {code}"
