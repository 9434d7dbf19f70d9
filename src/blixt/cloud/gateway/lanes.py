"""Who serves a deployment's next request: least in flight, held while nobody can, and counted."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from blixt.cloud.gateway.errors import BadUpstream, HoldTimeout, TooManyWaiting, Unavailable
from blixt.cloud.gateway.limits import Limits
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


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    """A request in the queue, and the replicas that already failed it."""

    given: asyncio.Future[Target]
    tried: set[Target]


class Lane:
    """One deployment's replicas and the queue in front of them."""

    def __init__(self, backend: Backend, on_demand: Callable[[str], None], limits: Limits) -> None:
        self.backend = backend
        self._on_demand = on_demand
        self._limits = limits
        self._loads: dict[Target, int] = {}
        self._suspects: dict[Target, float] = {}
        self._queue: dict[_Waiter, None] = {}  # in order of arrival, and quick to leave
        self._total = 0
        self._last_request_at = 0.0
        self._demanded_at = float("-inf")

    def stats(self) -> Stats:
        """The counters now."""
        return Stats(sum(self._loads.values()), len(self._queue), self._total, self._last_request_at)

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
        for waiter in self._queue:
            waiter.tried.intersection_update(backend.replicas)
        if backend.state in ("failed", "stopped"):
            self._fail_waiters()
        self._admit_waiters()

    def close(self) -> None:
        """The deployment is gone: nobody need wait on."""
        self.update(Backend(self.backend.uid, self.backend.teamspace, self.backend.name, state="stopped"))

    async def acquire(self, tried: set[Target]) -> Target:
        """Return a replica that is not in `tried`, waiting for one if need be.

        A replica that leaves the route table while this waits also leaves `tried`: if it comes back, it is
        new.

        Raises:
            Unavailable, TooManyWaiting, HoldTimeout, BadUpstream: nobody will serve it; each says why.
        """
        if self.backend.state in ("failed", "stopped"):
            raise self._halted()
        target = self._pick(tried)
        if target is None:
            return await self._wait(tried)
        self._loads[target] = self._loads.get(target, 0) + 1
        return target

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
        self._suspects[target] = time.monotonic() + self._limits.suspect_s

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

    def _pick(self, tried: set[Target]) -> Target | None:
        replicas = self.backend.replicas
        if tried:
            replicas = [target for target in replicas if target not in tried]
        loads = self._loads
        if cap := self.backend.max_concurrency:
            replicas = [target for target in replicas if loads.get(target, 0) < cap]
        if self._suspects:
            now = time.monotonic()
            replicas = [t for t in replicas if self._suspects.get(t, 0.0) <= now] or replicas
        return min(replicas, key=lambda target: loads.get(target, 0), default=None)

    async def _wait(self, tried: set[Target]) -> Target:
        self._check_room()
        self._demand()
        lost = bool(tried)
        wait_s = min(self.backend.hold_s, self._limits.recover_s) if lost else self.backend.hold_s
        waiter = _Waiter(asyncio.get_running_loop().create_future(), tried)
        self._queue[waiter] = None
        try:
            async with asyncio.timeout(wait_s):
                return await asyncio.shield(waiter.given)
        except (TimeoutError, asyncio.CancelledError) as error:
            self._abandon(waiter)
            if isinstance(error, asyncio.CancelledError):
                raise
            if lost:
                raise BadUpstream(f"{self.title} has no replica that answers.", retry_after_s=1) from None
            raise HoldTimeout(
                f"{self.title} had no free replica within {wait_s:g} s.", retry_after_s=5
            ) from None

    def _check_room(self) -> None:
        if len(self._queue) < self.backend.max_waiting:
            return
        message = f"{self.title} has {len(self._queue)} requests waiting, which is its limit."
        if self.backend.replicas:
            raise TooManyWaiting(message, retry_after_s=1)
        raise Unavailable(message, hint="Its first replica is starting; try again soon.", retry_after_s=5)

    def _abandon(self, waiter: _Waiter) -> None:
        self._queue.pop(waiter, None)
        if not waiter.given.cancel() and waiter.given.exception() is None:
            self.release(waiter.given.result())

    def _demand(self) -> None:
        now = time.monotonic()
        if now - self._demanded_at >= _ON_DEMAND_EVERY_S:
            self._demanded_at = now
            self._on_demand(self.backend.uid)

    def _admit_waiters(self) -> None:
        for waiter in list(self._queue):
            target = self._pick(waiter.tried)
            if target is not None:
                self._loads[target] = self._loads.get(target, 0) + 1
                del self._queue[waiter]
                waiter.given.set_result(target)
            elif not waiter.tried:
                return  # what the first cannot have, the later ones cannot either

    def _fail_waiters(self) -> None:
        for waiter in self._queue:
            waiter.given.set_exception(self._halted())
        self._queue.clear()


class Lanes:
    """The lanes of all deployments in a route table, kept in step with it."""

    def __init__(self, table: RouteTable, on_demand: Callable[[str], None], limits: Limits) -> None:
        self._table = table
        self._on_demand = on_demand
        self._limits = limits
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
            self._lanes[uid] = Lane(backend, self._on_demand, self._limits)
        else:
            lane.update(backend)
