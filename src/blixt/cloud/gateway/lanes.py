"""Who serves a deployment's next request: least in flight, held while nobody can, and counted."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Container
from dataclasses import dataclass

from blixt.cloud.gateway.errors import BadUpstream, HoldTimeout, TooManyWaiting, Unavailable
from blixt.cloud.gateway.routing import Backend, RouteTable, Target

_ON_DEMAND_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Stats:
    """What the autoscaler needs of one deployment.

    Attributes:
        in_flight: requests (streams and WebSockets too) at a replica now.
        waiting: requests held until a replica is free.
        total: requests admitted since the gateway started, also those that then failed.
        last_request_at: unix seconds when one last began or ended, 0.0 for never.
    """

    in_flight: int = 0
    waiting: int = 0
    total: int = 0
    last_request_at: float = 0.0


class Lane:
    """One deployment's replicas and the queue in front of them."""

    def __init__(self, backend: Backend, on_demand: Callable[[str], None], suspect_s: float) -> None:
        self.backend = backend
        self._on_demand = on_demand
        self._suspect_s = suspect_s
        self._loads: dict[Target, int] = {}
        self._suspects: dict[Target, float] = {}
        self._queue: deque[asyncio.Future[Target]] = deque()
        self._total = 0
        self._last_request_at = 0.0
        self._demanded_at = float("-inf")

    def stats(self) -> Stats:
        """The counters now."""
        waiting = sum(1 for waiter in self._queue if not waiter.done())
        return Stats(sum(self._loads.values()), waiting, self._total, self._last_request_at)

    def begin(self) -> None:
        """Count one request."""
        self._total += 1
        self._last_request_at = time.time()

    def end(self) -> None:
        """Note when a request ended, from which idleness counts."""
        self._last_request_at = time.time()

    def update(self, backend: Backend) -> None:
        """Take the new replicas and let waiters in."""
        self.backend = backend
        self._suspects = {t: until for t, until in self._suspects.items() if t in backend.replicas}
        if backend.state in ("failed", "stopped"):
            self._fail_waiters()
        self._admit_waiters()

    def close(self) -> None:
        """The deployment is gone: nobody need wait on."""
        self.update(Backend(self.backend.uid, self.backend.teamspace, self.backend.name, state="stopped"))

    async def acquire(self, tried: Container[Target]) -> Target:
        """Return a replica that is not in `tried`, waiting for one if need be.

        Raises:
            Unavailable, TooManyWaiting, HoldTimeout, BadUpstream: nobody will serve it; each says why.
        """
        backend = self.backend
        if backend.state in ("failed", "stopped"):
            raise self._halted()
        replicas = [target for target in backend.replicas if target not in tried]
        if backend.replicas and not replicas:
            raise BadUpstream(f"{self.title} has no replica that can be reached.", retry_after_s=1)
        target = None if self._queue else self._pick(replicas)
        if target is not None:
            self._loads[target] = self._loads.get(target, 0) + 1
            return target
        return await self._wait()

    def release(self, target: Target) -> None:
        """Give back what `acquire` returned."""
        load = self._loads.get(target, 0) - 1
        if load > 0:
            self._loads[target] = load
        else:
            self._loads.pop(target, None)
        if self._queue:
            self._admit_waiters()

    def suspect(self, target: Target) -> None:
        """Prefer others for a while: it could not be reached or died."""
        self._suspects[target] = time.monotonic() + self._suspect_s

    @property
    def title(self) -> str:
        """What to call it in an error."""
        return f"Deployment {self.backend.teamspace}/{self.backend.name}"

    def _halted(self) -> Unavailable:
        reason = f": {self.backend.reason}" if self.backend.reason else ""
        return Unavailable(
            f"{self.title} is {self.backend.state}{reason}.",
            hint=f"Start it with `blixt deployment start {self.backend.name}`, or look at its logs.",
        )

    def _pick(self, replicas: list[Target]) -> Target | None:
        cap = self.backend.max_concurrency
        loads = self._loads
        if cap:
            replicas = [target for target in replicas if loads.get(target, 0) < cap]
        if self._suspects:
            now = time.monotonic()
            healthy = [target for target in replicas if self._suspects.get(target, 0.0) <= now]
            replicas = healthy or replicas
        return min(replicas, key=lambda target: loads.get(target, 0), default=None)

    async def _wait(self) -> Target:
        backend = self.backend
        if len(self._queue) >= backend.max_waiting:
            message = f"{self.title} has {len(self._queue)} requests waiting, which is its limit."
            if backend.replicas:
                raise TooManyWaiting(message, retry_after_s=1)
            raise Unavailable(message, hint="Its first replica is starting; try again soon.", retry_after_s=5)
        self._demand()
        waiter: asyncio.Future[Target] = asyncio.get_running_loop().create_future()
        self._queue.append(waiter)
        try:
            async with asyncio.timeout(backend.hold_s):
                return await asyncio.shield(waiter)
        except (TimeoutError, asyncio.CancelledError) as error:
            self._abandon(waiter)
            if isinstance(error, asyncio.CancelledError):
                raise
            raise HoldTimeout(
                f"{self.title} had no free replica within {backend.hold_s:g} s.",
                retry_after_s=5,
            ) from None

    def _abandon(self, waiter: asyncio.Future[Target]) -> None:
        if not waiter.cancel() and waiter.exception() is None:
            self.release(waiter.result())

    def _demand(self) -> None:
        now = time.monotonic()
        if now - self._demanded_at >= _ON_DEMAND_EVERY_S:
            self._demanded_at = now
            self._on_demand(self.backend.uid)

    def _admit_waiters(self) -> None:
        while self._queue:
            if self._queue[0].done():
                self._queue.popleft()
                continue
            target = self._pick(list(self.backend.replicas))
            if target is None:
                return
            self._loads[target] = self._loads.get(target, 0) + 1
            self._queue.popleft().set_result(target)

    def _fail_waiters(self) -> None:
        for waiter in self._queue:
            if not waiter.done():
                waiter.set_exception(self._halted())
        self._queue.clear()


class Lanes:
    """The lanes of all deployments in a route table, kept in step with it."""

    def __init__(self, table: RouteTable, on_demand: Callable[[str], None], suspect_s: float) -> None:
        self._table = table
        self._on_demand = on_demand
        self._suspect_s = suspect_s
        self._lanes: dict[str, Lane] = {}
        for backend in table.deployments():
            self._changed(backend.uid)
        table.subscribe(self._changed)

    def lane(self, backend: Backend) -> Lane:
        """The lane of a deployment in the table."""
        return self._lanes[backend.uid]

    def stats(self) -> dict[str, Stats]:
        """Counters by deployment uid."""
        return {uid: lane.stats() for uid, lane in self._lanes.items()}

    def _changed(self, uid: str) -> None:
        backend = self._table.deployment(uid)
        lane = self._lanes.get(uid)
        if backend is None:
            if lane is not None:
                del self._lanes[uid]
                lane.close()
        elif lane is None:
            self._lanes[uid] = Lane(backend, self._on_demand, self._suspect_s)
        else:
            lane.update(backend)
