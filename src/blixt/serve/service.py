"""A server at work: one pool and hub for each API, started and stopped with the event loop."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from blixt.serve.api import API
from blixt.serve.config import Limits
from blixt.serve.errors import ServeError, SetupFailed
from blixt.serve.metrics import ApiMetrics, render
from blixt.serve.supervisor import Pool


@dataclass(slots=True)
class Running:
    """One API with its workers."""

    api: API
    metrics: ApiMetrics
    pool: Pool


class Service:
    """Everything behind the HTTP lane. Exists before the loop runs; lives from `start` to `stop`.

    Args:
        apis: What is served.
        devices: One entry a worker, for each API.
        limits: Bounds and deadlines.
    """

    def __init__(self, apis: Sequence[API], devices: list[str], limits: Limits) -> None:
        self.apis = list(apis)
        self.devices = devices
        self.limits = limits
        self.draining = False
        self.hurried = False
        self.running: list[Running] = []
        self.fatal: asyncio.Future[SetupFailed] | None = None

    def start(self) -> None:
        """Start all workers; returns before they are ready. Requests wait in the queue until then."""
        self.draining = False
        fatal = self.fatal = asyncio.get_running_loop().create_future()

        def on_fatal(error: SetupFailed) -> None:
            if not fatal.done():
                fatal.set_result(error)

        for api in self.apis:
            metrics = ApiMetrics()
            pool = Pool(api, self.devices, self.limits, metrics, on_fatal)
            self.running.append(Running(api, metrics, pool))
            pool.start()

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
        """Whether every API has a worker that answers."""
        return bool(self.running) and all(running.pool.hub.workers_ready for running in self.running)

    @property
    def healthy(self) -> bool:
        """Whether it is ready and every API's own `health` agrees."""
        return self.ready and all(running.api.health() for running in self.running)

    def describe(self) -> list[dict[str, Any]]:
        """What `/info` tells about every API."""
        return [
            {
                "api": type(running.api).__name__,
                "path": path_of(running.api),
                "stream": bool(running.api.policy().max_streams),
                "max_batch_size": running.api.max_batch_size,
                "devices": self.devices,
                "workers_ready": running.pool.hub.workers_ready,
                "pids": running.pool.pids,
            }
            for running in self.running
        ]

    def metrics_text(self) -> str:
        """Prometheus text over all APIs."""
        return render((path_of(running.api), running.metrics) for running in self.running)


def path_of(api: API) -> str:
    """The path an API is known by."""
    return api.api_path if api.spec is None else "/v1"
