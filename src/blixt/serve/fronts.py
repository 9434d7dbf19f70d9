"""Several fronts on one port: the supervisor of the fronts and of their workers. No request passes here.

The kernel spreads connections over the fronts' sockets (SO_REUSEPORT), which stay open here while a front is
started again, so that connections wait instead of failing. To each worker the supervisor is the front in slot
0, which never sends a request; a pair of sockets ties each worker to every other front.
"""

import asyncio
import logging
import multiprocessing
import signal
import socket
import struct
from collections.abc import Coroutine, Generator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.context import SpawnProcess
from typing import TYPE_CHECKING, Any

from blixt.serve.backstage import Backstage
from blixt.serve.callbacks import Events
from blixt.serve.errors import SetupFailed
from blixt.serve.fronts_control import Control, Message, pair
from blixt.serve.fronts_member import FrontSpec, main
from blixt.serve.fronts_single import first, ready_text, say, signals
from blixt.serve.link import socket_pair
from blixt.serve.metrics import ApiMetrics, MetricsPage
from blixt.serve.pools import pool_for, renew, stages_of
from blixt.serve.slab import Slab
from blixt.serve.supervisor_worker import Worker
from blixt.serve.worker.main import INHERITED_SIGNALS

if TYPE_CHECKING:
    from blixt.serve.listen import Listening
    from blixt.serve.pipeline_hub import PipelinePool
    from blixt.serve.server import Server
    from blixt.serve.supervisor import Pool

_SLOT = struct.Struct("<I")
DOOR_RETRY_S = 0.05
logger = logging.getLogger("blixt.serve")


class Front:
    """One front process, from its start to its end.

    Args:
        supervisor: Whose front it is.
        slot: Its number, from 1.
    """

    def __init__(self, supervisor: "Fronts", slot: int) -> None:
        self.slot = slot
        self.slab = Slab.create() if supervisor.listening.hot_lane else None
        self.workers: set[int] = set()  # process ids
        self.was_listening = False
        self.is_ready = False
        self.drained = asyncio.Event()
        self.ended = asyncio.Event()
        self.left = asyncio.Condition()
        self._supervisor = supervisor
        self._loop = asyncio.get_running_loop()
        mine, its = pair()
        with its:
            sock = supervisor.socks[slot - 1]
            told = FrontSpec(
                supervisor.server, slot, sock, its, supervisor.pages, self.slab, supervisor.listening
            )
            context = multiprocessing.get_context("spawn")
            self.process: SpawnProcess = context.Process(
                target=main, args=(told,), name=f"blixt-front-{slot}"
            )
            with _signals_blocked():
                self.process.start()
        self.exit_code: int | None = None
        self._control = Control(mine, self._on_message, lambda: None)
        self._loop.add_reader(self.process.sentinel, self._on_exit)

    def introduce(self, api: int, stage: int, worker: Worker) -> None:
        """Tie a worker that answers to this front with a pair of sockets."""
        if self.ended.is_set() or worker.ended.is_set() or worker.door is None:
            return
        pid = worker.pid
        here, there = socket_pair()
        with here, there:
            slab = [] if self.slab is None or stage else [self.slab.fd]  # later stages get no bodies
            worker.door.setblocking(False)
            try:
                socket.send_fds(worker.door, [_SLOT.pack(self.slot)], [there.fileno(), *slab])
            except BlockingIOError:  # it computes, and other fronts stand before the door already
                self._loop.call_later(DOOR_RETRY_S, self.introduce, api, stage, worker)
                return
            except OSError:
                return  # it is ending
            met = {"is": "worker", "api": api, "stage": stage, "pid": pid}
            self._control.send(met, [here.fileno(), worker.page.fd])
        if pid is not None:
            self.workers.add(pid)

    def tell(self, message: Message) -> None:
        """Send it a message; one that does not read is killed."""
        if not self.ended.is_set() and not self._control.send(message):
            self.process.kill()

    async def until_left(self, pid: int) -> None:
        """Wait until this front has let go of a worker."""
        async with self.left:
            await self.left.wait_for(lambda: pid not in self.workers)

    async def stop(self, hurried: bool, patience_s: float) -> None:
        """Let it end, by force after `patience_s`."""
        self.tell({"is": "stop", "hurried": hurried})
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self.ended.wait()
        if not self.ended.is_set():
            self.process.kill()
            await self.ended.wait()

    def _on_message(self, message: Message, descriptors: list[int]) -> None:
        match message["is"]:
            case "listening":
                self.was_listening = True
            case "ready":
                self.is_ready = True
            case "drained":
                self.drained.set()
            case "left":
                self._leave({message["pid"]})
            case _:
                pass
        self._supervisor.on_message(message)

    def _on_exit(self) -> None:
        self._loop.remove_reader(self.process.sentinel)
        self.process.join()
        self.exit_code = self.process.exitcode
        self.process.close()  # its pipes would stay open until the garbage collector comes by
        self._control.close()
        if self.slab is not None:
            self.slab.close()
        self._leave(set(self.workers))
        self.drained.set()
        self.ended.set()

    def _leave(self, pids: set[int]) -> None:
        async def notify() -> None:
            async with self.left:
                self.left.notify_all()

        self.workers -= pids
        self._supervisor.background(notify())


class Tie:
    """The `supervisor.Watcher` of one API's pool, or one stage's: brings its workers to the fronts."""

    def __init__(self, supervisor: "Fronts", api: int, stage: int) -> None:
        self._supervisor = supervisor
        self._api = api
        self._stage = stage

    def on_ready(self, worker: Worker) -> None:
        """A worker answers."""
        self._supervisor.write_gauges()
        for front in self._supervisor.fronts.values():
            front.introduce(self._api, self._stage, worker)

    def on_end(self, worker: Worker) -> None:
        """A worker has ended."""
        self._supervisor.write_gauges()

    async def on_retire(self, worker: Worker) -> None:
        """A worker is replaced: every front finishes with it."""
        pid = worker.pid
        fronts = [front for front in self._supervisor.fronts.values() if pid in front.workers]
        for front in fronts:
            front.tell({"is": "retire", "pid": pid})
        if pid is not None:
            await asyncio.gather(*(front.until_left(pid) for front in fronts))


class Fronts:
    """All fronts and all workers of a server.

    Args:
        server: What is served.
        socks: A listening socket for each front.
        listening: How connections are made.
    """

    def __init__(self, server: "Server", socks: list[socket.socket], listening: "Listening") -> None:
        self.server = server
        self.socks = socks
        self.listening = listening
        self.pages = [MetricsPage.create(len(server.apis)) for _ in range(server.fronts + 1)]
        self.fronts: dict[int, Front] = {}
        self.fatal: asyncio.Future[SetupFailed] = asyncio.get_running_loop().create_future()
        self.asked = signals(lambda: renew(self._pools))
        self.is_ready = False
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._backstage = Backstage(server.limits, server.served.loggers)
        self._metrics = [ApiMetrics(self.pages[0].block(i)) for i in range(len(server.apis))]
        self._pools = [self._pool(i) for i in range(len(server.apis))]

    def start(self) -> None:
        """Start everything; returns before anything is ready."""
        for pool in self._pools:
            pool.start()
        for slot in range(1, self.server.fronts + 1):
            self.background(self._tend(slot))
        self.write_gauges()

    async def drain(self) -> None:
        """All fronts refuse new requests and finish the admitted ones."""
        for front in self.fronts.values():
            front.tell({"is": "drain"})
        await asyncio.gather(*(front.drained.wait() for front in self.fronts.values()))

    async def stop(self, hurried: bool) -> None:
        """End all fronts, then all workers."""
        self._stopping.set()
        for sock in self.socks:
            sock.close()  # else connections would still wait here for fronts that have gone
        patience_s = 0.0 if hurried else self.server.limits.stop_s
        await asyncio.gather(*(front.stop(hurried, patience_s + 1) for front in self.fronts.values()))
        await asyncio.gather(*(pool.stop(patience_s) for pool in self._pools))
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._backstage.close)
        for page in self.pages:
            page.close()

    def on_message(self, message: Message) -> None:
        """A front speaks."""
        match message["is"]:
            case "kill":
                for pool in self._pools:
                    for worker in pool.workers:
                        if worker.pid == message["pid"]:
                            worker.kill()
            case "ask_stop":
                self.asked.put_nowait(signal.SIGTERM)
            case "ready":
                self._maybe_ready()
            case _:
                pass

    def write_gauges(self) -> None:
        """Write down how many workers there are."""
        for metrics in self._metrics:
            metrics.refresh()

    def background(self, work: "Coroutine[Any, Any, None]") -> None:
        """Run something beside the rest, until `stop`."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tend(self, slot: int) -> None:
        """Keep one slot filled: level-triggered on the front's end."""
        limits, failures, delay_s = self.server.limits, 0, 0.0
        while not self._stopping.is_set():
            front = self.fronts[slot] = Front(self, slot)
            if self.is_ready:
                front.tell({"is": "ready"})
            for api, pool in enumerate(self._pools):
                for stage, part in enumerate(stages_of(pool)):
                    for worker in part.workers:
                        if worker.ready_at is not None:
                            front.introduce(api, stage, worker)
            await front.ended.wait()
            self.pages[slot].clear_gauges()
            if self._stopping.is_set():
                return
            failures = 0 if front.was_listening else failures + 1
            if failures >= limits.max_setup_failures:
                self._on_fatal(SetupFailed(f"Front {slot} ends before it listens; see its messages above."))
                return
            delay_s = 0.0 if front.is_ready else min(limits.max_backoff_s, delay_s * 2 + limits.backoff_s)
            logger.error("front %d ended with exit code %s; starting another", slot, front.exit_code)
            with suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._stopping.wait()

    def _pool(self, index: int) -> "Pool | PipelinePool":
        return pool_for(
            self.server.apis[index],
            self.server.served,
            index,
            self._metrics[index],
            self._on_fatal,
            backstage=self._backstage,
            watch=partial(Tie, self, index),
        )

    def _on_fatal(self, error: SetupFailed) -> None:
        if not self.fatal.done():
            self.fatal.set_result(error)

    def _maybe_ready(self) -> None:
        if not self.is_ready and all(front.is_ready for front in self.fronts.values()):
            self.is_ready = True
            for front in self.fronts.values():
                front.tell({"is": "ready"})
            served = self.server.served
            say(ready_text(served.devices) + f", {self.server.fronts} fronts")


async def supervise(server: "Server", socks: list[socket.socket], listening: "Listening") -> None:
    """Serve until a signal, then drain.

    Raises:
        SetupFailed: Set-up failed again and again.
    """
    team = Fronts(server, socks, listening)
    team.start()
    events = Events(server.served.callbacks)
    events.fire("on_server_start", server)
    hurried = False
    loop = asyncio.get_running_loop()
    try:
        stop = loop.create_task(team.asked.get())
        await asyncio.wait({stop, team.fatal}, return_when=asyncio.FIRST_COMPLETED)
        if not team.fatal.done():
            say("finishing admitted requests; Ctrl-C again stops at once")
            again = loop.create_task(team.asked.get())
            await first(loop.create_task(team.drain()), again)
            hurried = not again.cancelled()
    finally:
        await team.stop(hurried)
        events.fire("on_server_end", server)
    if team.fatal.done():
        raise team.fatal.result()


@contextmanager
def _signals_blocked() -> Generator[None]:
    """A child inherits the mask and lifts it once it ignores these signals."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, INHERITED_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
