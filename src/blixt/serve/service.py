"""A server at work: one pool and hub for each API, started and stopped with the event loop."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast

import blixt
from blixt.serve.api import API
from blixt.serve.backstage import Backstage
from blixt.serve.calls import connect
from blixt.serve.config import Limits
from blixt.serve.errors import ServeError, SetupFailed
from blixt.serve.health import HealthCheck
from blixt.serve.hub import Hub
from blixt.serve.metrics import ApiMetrics, MetricsPage, total
from blixt.serve.metrics_text import render
from blixt.serve.plan import Plan
from blixt.serve.pools import pool_for
from blixt.serve.slab import Slab

OnFatal = Callable[[SetupFailed], None]


class PoolLike(Protocol):
    """The workers of one API as a front sees them: its own children, or its supervisor's."""

    hub: Hub
    plan: Plan

    def start(self) -> None:
        """Begin; returns before a worker is ready."""
        ...

    async def stop(self, patience_s: float) -> None:
        """End, by force after `patience_s`."""
        ...

    @property
    def pids(self) -> list[int]:
        """Process ids of the live workers."""
        ...

    def waiting_for(self) -> str | None:
        """Why no worker answers yet, as a sentence; None if one does."""
        ...


class Team(Protocol):
    """What a front among several gets from its supervisor."""

    fronts: int
    pages: Sequence[MetricsPage]
    page: MetricsPage
    ready: bool
    slab: Slab | None

    def pool(self, index: int, api: API, metrics: ApiMetrics, on_fatal: OnFatal) -> PoolLike:
        """The way to the workers of one API."""
        ...

    def ask_stop(self) -> None:
        """Let the whole server end as on SIGTERM."""
        ...


class LaneChoice(NamedTuple):
    """Which lane a path has, and why."""

    lane: str
    reason: str


COLD = LaneChoice("cold", "the app runs inside another process's server")


@dataclass(frozen=True)
class Served:
    """What a service consists of.

    Args:
        apis: What is served.
        devices: For each API, one entry a worker.
        limits: Bounds and deadlines.
        callbacks: Of the server; the APIs' own come after them.
        loggers: Where `API.log` goes.
    """

    apis: list[API]
    devices: list[list[str]]
    limits: Limits
    callbacks: Sequence[Any] = ()
    loggers: Sequence[Any] = ()


@dataclass(slots=True)
class Running:
    """One API with its workers."""

    api: API
    devices: list[str]
    metrics: ApiMetrics
    pool: PoolLike
    plan: Plan
    health: HealthCheck


class Service:
    """Everything behind the HTTP lanes. Exists before the loop runs; lives from `start` to `stop`.

    Args:
        served: What it consists of.
        team: The other fronts and the workers' supervisor, if there are several fronts.
    """

    def __init__(self, served: Served, team: Team | None = None) -> None:
        self.served = served
        self.apis = served.apis
        self.limits = served.limits
        self.team = team
        self.draining = False
        self.hurried = False
        self.running: list[Running] = []
        self.fatal: asyncio.Future[SetupFailed] | None = None
        self.lanes: Mapping[str, LaneChoice] = {}
        self.on_stop_asked: Callable[[], None] = lambda: None
        self.slab: Slab | None = None if team is None else team.slab
        self._backstage: Backstage | None = None

    @property
    def devices(self) -> list[str]:
        """Every worker's device."""
        return [device for devices in self.served.devices for device in devices]

    def start(self, slab: Slab | None = None) -> None:
        """Start all workers, unless they are; returns before they are ready. Until then requests wait.

        Args:
            slab: Where large bodies will be received, if this process does so.
        """
        if self.running:
            return
        self.draining = self.hurried = False
        self.slab = slab or self.slab
        fatal = self.fatal = asyncio.get_running_loop().create_future()

        def on_fatal(error: SetupFailed) -> None:
            if not fatal.done():
                fatal.set_result(error)

        for index, api in enumerate(self.apis):
            metrics = ApiMetrics(None if self.team is None else self.team.page.block(index))
            pool = self._pool(index, api, metrics, on_fatal)
            self.running.append(
                Running(api, self.served.devices[index], metrics, pool, pool.plan, HealthCheck(api))
            )
        if self.running and self.slab is not None:
            self.running[0].metrics.gauges["slab_bytes"] = lambda: self.slab.used_bytes if self.slab else 0
        connect([running.pool for running in self.running], self.limits.running_timeout)
        for running in self.running:
            running.pool.start()

    async def drain(self) -> None:
        """Refuse new requests and wait for the admitted ones, at most `drain_s`."""
        self.draining = True
        await asyncio.gather(*(running.pool.hub.drain(self.limits.drain_s) for running in self.running))

    def fail_all(self) -> None:
        """Answer everyone who still waits with 503."""
        for running in self.running:
            running.pool.hub.fail_all("The server is shutting down.")

    async def stop(self) -> None:
        """End every worker process; one that computes gets `stop_s` to finish, unless we are `hurried`."""
        self.fail_all()
        patience_s = 0.0 if self.hurried else self.limits.stop_s
        await asyncio.gather(*(running.pool.stop(patience_s) for running in self.running))
        self.running.clear()
        if self._backstage is not None:
            await asyncio.to_thread(self._backstage.close)
            self._backstage = None
        if self.slab is not None and self.team is None:
            self.slab.close()
            self.slab = None

    def ask_stop(self) -> None:
        """End the server as SIGTERM does."""
        if self.team is not None:
            self.team.ask_stop()
        else:
            self.on_stop_asked()

    def of(self, api: API) -> Running:
        """The running side of an API.

        Raises:
            ServeError: The workers were not started.
        """
        for running in self.running:
            if running.api is api:
                return running
        raise ServeError("The workers are not running; the app serves only within its lifespan.")

    async def until_ready(self) -> None:
        """Wait until every API has a worker that answers."""
        for running in self.running:
            await running.pool.hub.has_worker.wait()

    @property
    def ready(self) -> bool:
        """Whether every API has a worker that answers, and every front was begun."""
        workers = all(running.pool.hub.workers_ready for running in self.running)
        return bool(self.running) and workers and (self.team is None or self.team.ready)

    def waiting_for(self) -> list[str]:
        """Why it is not ready, one sentence for each API that keeps it from being so."""
        return [why for running in self.running if (why := running.pool.waiting_for()) is not None]

    async def healthy(self) -> bool:
        """Whether it is ready and every API's own `health` agrees; that is asked from the start."""
        answers = await asyncio.gather(*(running.health.healthy() for running in self.running))
        return self.ready and all(answers)

    def describe(self) -> list[dict[str, Any]]:
        """What `/info` tells about every API."""
        return [self._describe(running) for running in self.running]

    def metrics_text(self) -> str:
        """Prometheus text over all APIs and processes."""
        for running in self.running:
            running.metrics.refresh()
        own = "".join(running.api.metrics_text() for running in self.running)
        return own + render(
            ((path_of(running.api), self._cells(index)) for index, running in enumerate(self.running)),
            blixt.__version__,
            1 if self.team is None else self.team.fronts,
        )

    def _cells(self, index: int) -> Sequence[float]:
        if self.team is None:
            return self.running[index].metrics.cells.tolist()
        return total([page.block(index) for page in self.team.pages])

    def _pool(self, index: int, api: API, metrics: ApiMetrics, on_fatal: OnFatal) -> PoolLike:
        if self.team is not None:
            return self.team.pool(index, api, metrics, on_fatal)
        if self._backstage is None:
            self._backstage = Backstage(self.limits, self.served.loggers)
        pool = pool_for(api, self.served, index, metrics, on_fatal, backstage=self._backstage, slab=self.slab)
        return cast(PoolLike, pool)  # a pipeline's hub has the same face and is no Hub

    def _describe(self, running: Running) -> dict[str, Any]:
        api = running.api
        paths = [api.api_path] if api.spec is None else api.spec.paths()
        choice = next((self.lanes[path] for path in paths if path in self.lanes), COLD)
        return {
            "api": type(api).__name__,
            "path": path_of(api),
            "lane": choice.lane,
            "lane_reason": choice.reason,
            "stream": running.plan.policy.stream,
            "max_batch_size": api.max_batch_size,
            "devices": running.devices,
            "workers_ready": running.pool.hub.workers_ready,
            "pids": running.pool.pids,
        }


def path_of(api: API) -> str:
    """The path an API is known by."""
    return api.api_path if api.spec is None else api.spec.label
