"""The workers of one API: started, watched, started anew with back-off, replaced, ended."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from blixt.serve.api import API
from blixt.serve.config import Limits
from blixt.serve.errors import SetupFailed
from blixt.serve.hub import Hub
from blixt.serve.link import Link
from blixt.serve.metrics import ApiMetrics
from blixt.serve.plan import make_plan
from blixt.serve.plan_rules import rules_of
from blixt.serve.supervisor_worker import Listener, Worker
from blixt.serve.worker.main import WorkerSpec

if TYPE_CHECKING:
    from blixt.serve.slab import Slab

SWEEP_S = 0.25
OnFatal = Callable[[SetupFailed], None]
logger = logging.getLogger("blixt.serve")


class Watcher(Protocol):
    """The fronts' side of a supervisor that is no front itself."""

    def on_ready(self, worker: Worker) -> None:
        """A worker answers: bring it the fronts, through its door."""
        ...

    def on_end(self, worker: Worker) -> None:
        """A worker has ended."""
        ...

    async def on_retire(self, worker: Worker) -> None:
        """A worker is replaced: return once every front has let it finish (`Hub.retire`)."""
        ...


@dataclass(frozen=True, slots=True)
class Ties:
    """What a pool's workers share with the rest of the server.

    Attributes:
        slab: The front's memory for large bodies.
        callbacks: The server's.
        log_address: Where `API.log` sends its values.
        folder: Where large values lie on their way to another worker.
        stage: The API's place in a pipeline, see `Plan`.
        watcher: Who brings further fronts to the workers, if there are any.
    """

    slab: "Slab | None" = None
    callbacks: Sequence[Any] = ()
    log_address: str | None = None
    folder: str | None = None
    stage: str = ""
    watcher: Watcher | None = None


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
        ties: What the workers share with the rest of the server.
    """

    def __init__(
        self,
        api: API,
        devices: list[str],
        limits: Limits,
        metrics: ApiMetrics,
        on_fatal: OnFatal,
        ties: Ties = Ties(),
    ) -> None:
        self.plan = make_plan(api, ties.callbacks, stage=ties.stage, folder=ties.folder)
        self.hub = Hub(self.plan.policy, limits, metrics, self._kill_hung, rules_of(api, self.plan.events))
        self._api = api
        self._devices = devices
        self._limits = limits
        self._metrics = metrics
        self._on_fatal = on_fatal
        self._ties = ties
        self._stopping = asyncio.Event()
        self._workers: list[Worker] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_failure = ""
        self._renewal_due = self._renewing = False
        self._listener = Listener(self.hub.on_message, self.hub.detach, self.hub.on_busy, self._on_ready)
        metrics.gauges["workers"] = lambda: len(devices)
        metrics.gauges["workers_ready"] = lambda: self.hub.workers_ready

    def start(self) -> None:
        """Start every worker; returns before they are ready."""
        for index, device in enumerate(self._devices):
            self._background(self._tend(index, device))
        if self._limits.max_requests or self._limits.max_memory_bytes:
            self._background(self._sweep())

    async def stop(self, patience_s: float) -> None:
        """End every worker, by force after `patience_s`, and wait until it is gone."""
        self._stopping.set()
        await asyncio.gather(*(worker.stop(patience_s) for worker in self._workers))
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.hub.close()

    @property
    def size(self) -> int:
        """How many workers it keeps."""
        return len(self._devices)

    @property
    def pids(self) -> list[int]:
        """Process ids of the live workers."""
        return [w.pid for w in self._workers if w.pid and not w.ended.is_set()]

    @property
    def workers(self) -> list[Worker]:
        """The live workers, ready or not."""
        return [worker for worker in self._workers if not worker.ended.is_set()]

    def kill(self, index: int) -> None:
        """End the worker in a slot at once; another takes its place."""
        for worker in self.workers:
            if worker.index == index and not worker.tired.is_set():
                worker.kill()

    def renew(self) -> None:
        """Replace every worker, one after the other, each once its successor is ready: nobody fails for it.

        Successors import and set up anew, so they see files (code, weights) as they are then. If a set-up
        fails, the worker that was to be replaced goes on. Asked meanwhile, it is all done once more.
        """
        self._renewal_due = True
        if not self._renewing:
            self._renewing = True
            self._background(self._renew())

    async def _renew(self) -> None:
        while self._renewal_due and not self._stopping.is_set():
            self._renewal_due = False
            for worker in self.workers:
                if worker.ready_at is not None and not self._stopping.is_set():
                    worker.tired.set()
                    await worker.ended.wait()
        self._renewing = False

    def waiting_for(self) -> str | None:
        """Why nobody answers yet, as a sentence; None if somebody does."""
        if self.hub.dead_reason is not None:
            return self.hub.dead_reason
        if self.hub.workers_ready:
            return None
        name = type(self._api).__name__
        if self._last_failure:
            return f"{name}: {self._last_failure.splitlines()[0]} It is being tried again."
        now = asyncio.get_running_loop().time()
        age_s = max((now - worker.started_at for worker in self.workers), default=0.0)
        return f"{name}: setup has been running for {age_s:.0f} s."

    # -- one slot -------------------------------------------------------------------------------------------

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
            self._last_failure = ended.reason
            self._metrics.restarts += 1
            with suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._stopping.wait()
            delay_s = min(limits.max_backoff_s, max(limits.backoff_s, delay_s * 2))

    async def _run_one(self, index: int, device: str) -> Ended:
        """Start a worker, replace it whenever it is tired, and wait until the last has ended."""
        worker = await self._spawn(index, device)
        while isinstance(worker, Worker):
            tired = asyncio.create_task(worker.tired.wait())
            ended = asyncio.create_task(worker.ended.wait())
            await asyncio.wait({tired, ended}, return_when=asyncio.FIRST_COMPLETED)
            tired.cancel()
            ended.cancel()
            if worker.ended.is_set() or self._stopping.is_set():
                await worker.ended.wait()
                return await self._bury(worker)
            successor = await self._spawn(index, device)
            if isinstance(successor, Worker):
                await successor.ready.wait()
                if successor.ended.is_set():
                    report = (await self._bury(successor)).reason
                    logger.error("worker %d is due for replacement, but: %s", index, report)
                    await self._pause(self._limits.max_backoff_s)
                    continue
            self._background(self._retire(worker))
            worker = successor
        return worker

    async def _spawn(self, index: int, device: str) -> "Worker | Ended":
        ties = self._ties
        spec = partial(
            WorkerSpec,
            self._api,
            device,
            index,
            slab=ties.slab,
            callbacks=ties.callbacks,
            log_address=ties.log_address,
            folder=ties.folder,
            stage=ties.stage,
        )
        try:
            has_door = ties.watcher is not None
            worker = Worker(spec, self._listener, self._limits.stop_s, has_door=has_door)
        except OSError as error:
            return Ended(None, f"no process could be started: {error}")
        except Exception as error:
            # Pickling has no error class of its own: a lambda, a lock, a class inside a function all differ.
            name = type(self._api).__name__
            reason = f"{name} cannot be sent to a worker: {error}. Build such things in setup()."
            return Ended(None, reason, hopeless=True)
        self._workers.append(worker)
        await worker.connect()
        self._background(self._watch_setup(worker))
        return worker

    async def _watch_setup(self, worker: Worker) -> None:
        timeout_s = self._api.start_timeout_s or self._limits.setup_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await worker.ready.wait()
        except TimeoutError:
            worker.report = f"setup took longer than {timeout_s:g} s."
            worker.kill()

    async def _bury(self, worker: Worker) -> Ended:
        await worker.stop(0)
        self._workers.remove(worker)
        if self._ties.watcher is not None:
            self._ties.watcher.on_end(worker)
        ready_s = None
        if worker.ready_at is not None:
            ready_s = asyncio.get_running_loop().time() - worker.ready_at
        return Ended(ready_s, worker.report or f"it ended {worker.ending}")

    async def _retire(self, worker: Worker) -> None:
        """A worker whose successor is ready finishes what it holds, streams and sessions too, and ends.

        No deadline here: each request has its own, and a worker that hangs beyond it is killed for that.
        """
        if self._ties.watcher is not None:
            await self._ties.watcher.on_retire(worker)
        self.hub.retire(worker.link)
        await worker.ended.wait()
        await self._bury(worker)

    # -- all slots ------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        """Note which workers have done or taken enough."""
        limits = self._limits
        while not self._stopping.is_set():
            for worker in self.workers:
                if worker.ready_at is None:
                    continue
                much = limits.max_requests and worker.begun >= limits.max_requests
                if much or (limits.max_memory_bytes and worker.memory_bytes > limits.max_memory_bytes):
                    worker.tired.set()
            await self._pause(SWEEP_S)

    async def _pause(self, delay_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._stopping.wait()

    def _background(self, work: "Awaitable[None]") -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_ready(self, worker: Worker) -> None:
        self._last_failure = ""
        self.hub.attach(worker.link)
        if self._ties.watcher is not None:
            self._ties.watcher.on_ready(worker)

    def _kill_hung(self, link: Link) -> None:
        for worker in self._workers:
            if worker.link is link:
                timeout_s = self._limits.timeout_s
                logger.error("worker %d hangs beyond timeout_s=%g, killing it", worker.index, timeout_s)
                worker.kill()

    def _give_up(self, reason: str) -> None:
        first = reason.splitlines()[0]
        self.hub.die(f"The service cannot start: {first}")
        self._on_fatal(SetupFailed(reason))
