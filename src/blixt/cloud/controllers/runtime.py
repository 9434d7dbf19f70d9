"""The runtime: engine, hub, controllers and sweeper as one part, started by the server, used by routes."""

import asyncio
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.requests import HTTPConnection

from blixt.cloud.api import Cloud
from blixt.cloud.controllers.allocations import Allocation, Allocations
from blixt.cloud.controllers.deployment import DeploymentController
from blixt.cloud.controllers.job import FINAL, JobController
from blixt.cloud.controllers.manager import Manager
from blixt.cloud.controllers.queue import WorkQueue
from blixt.cloud.controllers.routes import Routes
from blixt.cloud.controllers.studio import STOPPED, StudioController
from blixt.cloud.controllers.sweeper import Sweeper
from blixt.cloud.controllers.volumes import Volumes
from blixt.cloud.controllers.world import World, end
from blixt.cloud.engines import Engine
from blixt.cloud.errors import NotFound
from blixt.cloud.gateway import Gateway, RouteTable, Stats
from blixt.cloud.hub import Hub, LogStore
from blixt.cloud.objects import Object

SHUTDOWN_GRACE_S = 3.0
SHUTDOWN_REASON = "The server was shut down."


class Runtime:
    """Everything that runs workloads.

    Args:
        cloud: Objects, money, identity.
        engine: Where work runs.
    """

    def __init__(self, cloud: Cloud, engine: Engine) -> None:
        data_dir = cloud.settings.data_dir
        self.cloud = cloud
        self.url = ""
        self.gateway: Gateway | None = None
        self.table = RouteTable()
        self.routes = Routes(self.table)
        self.logs = LogStore(data_dir / "logs")
        self.hub = Hub(self.logs, self.wake)
        self.queue = WorkQueue(cloud.db, owner="server")
        volumes = Volumes(data_dir / "volumes")
        key = _key(data_dir / "agent.key")
        self.allocations = Allocations(cloud, engine, volumes, self.queue, url=lambda: self.url, key=key)
        self.world = World(
            cloud=cloud,
            engine=engine,
            hub=self.hub,
            logs=self.logs,
            allocations=self.allocations,
            volumes=volumes,
            queue=self.queue,
            url=lambda: self.url,
            usage=self._usage,
        )
        controllers = {
            "studio": StudioController(self.world),
            "job": JobController(self.world),
            "deployment": DeploymentController(self.world),
        }
        self.manager = Manager(cloud.store, self.queue, controllers, self._on_change)
        self._sweeper = Sweeper(self.world, self.wake)

    def wake(self, uid: str) -> None:
        """Have an object looked at soon; call it on the event loop."""
        self.manager.wake(uid)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.manager.run())
            group.create_task(self._sweeper.run())

    async def shut_down(self) -> None:
        """Release everything, after `run` was cancelled: nothing of ours is left running."""
        unended = await asyncio.to_thread(self.allocations.unended)
        await asyncio.gather(*(self._release(allocation) for allocation in unended))
        await asyncio.to_thread(self._write_stopped)
        self.hub.close()

    async def _release(self, allocation: Allocation) -> None:
        await end(self.world, allocation, SHUTDOWN_REASON, grace_s=SHUTDOWN_GRACE_S)

    def _write_stopped(self) -> None:
        """Say of everything that ran why it no longer does."""
        store = self.cloud.store
        for obj in store.list():
            if obj.kind == "studio" and obj.status["state"] not in ("stopped", "failed"):
                store.patch_spec(obj.uid, {"desired": "stopped"}, actor="server")
                store.update_status(obj.uid, {"state": "stopped", "reason": SHUTDOWN_REASON, **STOPPED})
            elif obj.kind == "job" and obj.status["state"] not in FINAL:
                stopped = {"state": "stopped", "finished_at": self.world.clock()}
                store.update_status(obj.uid, {**stopped, "reason": SHUTDOWN_REASON})
            elif obj.kind == "deployment" and obj.status["replicas"]:
                asleep: dict[str, Any] = {"state": "sleeping", "replicas": [], "in_flight": 0}
                store.update_status(obj.uid, {**asleep, "reason": SHUTDOWN_REASON})

    def _usage(self) -> Mapping[str, Stats]:
        return self.gateway.stats() if self.gateway is not None else {}

    def _on_change(self, obj: Object, gone: bool) -> None:
        self.routes.apply(obj, gone=gone)
        self.logs.grew(obj.uid)


def runtime_of(connection: HTTPConnection) -> Runtime:
    """The runtime of the app that serves this request; a FastAPI dependency."""
    runtime: Runtime = connection.app.state.runtime
    return runtime


def find_object(runtime: Runtime, uid: str) -> Object | None:
    """An object as it is now, None when it is gone."""
    try:
        return runtime.cloud.store.get_uid(uid)
    except NotFound:
        return None


def _key(file: Path) -> bytes:
    """The key of agents' tokens, made at the first start."""
    if not file.exists():
        part = file.with_suffix(".part")
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            out.write(secrets.token_bytes(32))
        part.rename(file)
    return file.read_bytes()
