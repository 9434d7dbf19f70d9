"""A front among several: a process that takes requests and has no workers of its own.

Its supervisor tells it on a line (`fronts_control`) of every worker that answers, with a socket to it:

    supervisor -> front   worker (api, stage, pid; descriptors: socket, page), retire (pid), ready, drain,
                          dead, stop
    front -> supervisor   listening, ready, left (pid), kill (pid), drained, ask_stop
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from blixt.serve.api import API
from blixt.serve.fronts_control import Control, Message
from blixt.serve.fronts_pool import FrontPipeline, FrontPool, front_pool
from blixt.serve.fronts_single import run_loop, spare_collector
from blixt.serve.metrics import ApiMetrics, MetricsPage
from blixt.serve.page import Page
from blixt.serve.service import OnFatal, PoolLike, Service
from blixt.serve.slab import Slab
from blixt.serve.worker.main import INHERITED_SIGNALS

if TYPE_CHECKING:
    from blixt.serve.listen import Listening
    from blixt.serve.server import Server


@dataclass(frozen=True)
class FrontSpec:
    """All a front is told at its start; pickled by `multiprocessing`'s spawn.

    Attributes:
        server: What is served.
        slot: Its number, from 1; 0 is the supervisor's.
        sock: Where it listens.
        control: Its end of the line.
        pages: The metrics of every process; its own is `pages[slot]`.
        slab: Where it receives large bodies.
        listening: How connections are made.
    """

    server: "Server"
    slot: int
    sock: socket.socket
    control: socket.socket
    pages: Sequence[MetricsPage]
    slab: Slab | None
    listening: "Listening"


class Member:
    """This front in its team, and the `service.Team` of its service."""

    def __init__(self, spec: FrontSpec) -> None:
        self.ready = False
        self.fronts = spec.server.fronts
        self.pages = spec.pages
        self.page = spec.pages[spec.slot]
        self.slab = spec.slab
        self.service = Service(spec.server.served, self)
        self._spec = spec
        self._pools: dict[int, FrontPool | FrontPipeline] = {}
        self._drain = asyncio.Event()
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._control = Control(spec.control, self._on_message, _leave)

    def pool(self, index: int, api: API, metrics: ApiMetrics, on_fatal: OnFatal) -> PoolLike:
        """Service: the way to the workers of one API."""
        served, slot, tell = self._spec.server.served, self._spec.slot, self._control.send
        pool = front_pool(api, served, metrics, slot, tell)
        self._pools[index] = pool
        return cast(PoolLike, pool)  # a pipeline's hub has the same face and is no Hub

    def ask_stop(self) -> None:
        """Service: the whole server is to end."""
        self._control.send({"is": "ask_stop"})

    async def run(self) -> None:
        """Serve until the supervisor says stop."""
        from blixt.serve.http.uvicorn_server import UvicornServer

        spec, service = self._spec, self.service
        service.start()
        app = spec.server.make_front_app(service)
        front = UvicornServer(app, spec.listening, self._write_gauges)
        serving = asyncio.create_task(front.serve(sockets=[spec.sock]))
        await front.until_started(serving)
        self._control.send({"is": "listening"})
        self._background(self._announce())
        await self._drain.wait()
        draining = asyncio.create_task(service.drain())
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({draining, stopping}, return_when=asyncio.FIRST_COMPLETED)
        self._control.send({"is": "drained"})
        await stopping
        service.fail_all()
        front.should_exit = True
        await serving

    async def _announce(self) -> None:
        await self.service.until_ready()
        spare_collector()
        self._control.send({"is": "ready"})

    def _write_gauges(self) -> None:
        for running in self.service.running:
            running.metrics.refresh()

    def _on_message(self, message: Message, descriptors: list[int]) -> None:
        match message["is"]:
            case "worker":
                sock, page = socket.socket(fileno=descriptors[0]), Page(descriptors[1])
                place: int = message["stage"]
                stage = self._pools[message["api"]].stages[place]
                self._background(stage.add(message["pid"], sock, page))
            case "retire":
                for pool in self._pools.values():
                    for stage in pool.stages:
                        stage.retire(message["pid"])
            case "ready":
                self.ready = True
            case "drain":
                self._drain.set()
            case "dead":
                for pool in self._pools.values():
                    pool.hub.die(message["reason"])
            case _:
                self.service.hurried = message["hurried"]
                self._drain.set()
                self._stop.set()

    def _background(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def main(spec: FrontSpec) -> None:
    """Entry point of the process. Signals are the supervisor's to read; without it, the front ends."""
    for number in INHERITED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INHERITED_SIGNALS)
    logging.basicConfig(format=f"%(asctime)s front {spec.slot} %(levelname)s %(message)s", level=logging.INFO)
    run_loop(_run(spec), spec.listening.loop)


async def _run(spec: FrontSpec) -> None:
    await Member(spec).run()


def _leave() -> None:
    os._exit(1)  # the supervisor is gone, and with it the workers: nobody here can be answered
