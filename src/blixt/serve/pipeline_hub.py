"""The front's side of a pipeline: one face for lanes and servers, a pool and hub for each stage behind it."""

import asyncio
from collections.abc import Sequence

import msgspec

from blixt.serve.handoff import discard
from blixt.serve.hub import Hub, OnCall
from blixt.serve.metrics import ApiMetrics
from blixt.serve.plan import Plan
from blixt.serve.request import Body, Rejected, Request, Sink
from blixt.serve.supervisor import Pool
from blixt.serve.supervisor_worker import Worker
from blixt.serve.wire import FINAL, Kind

LEAST_LEFT_S = 0.001


class Journey:
    """One request on its way through the stages: what a lane holds and cancels."""

    __slots__ = ("current", "first", "hub", "last_kind", "meta", "priority", "sink")

    def __init__(self, sink: Sink, priority: int, meta: bytes | None, last_kind: int) -> None:
        self.sink = sink
        self.priority = priority
        self.meta = meta
        self.last_kind = last_kind
        self.hub: Hub | None = None
        self.first: Request | None = None
        self.current: Request | None = None

    @property
    def admitted_at(self) -> float:
        """When its first stage admitted it."""
        return 0.0 if self.first is None else self.first.admitted_at

    @property
    def sent_at(self) -> float:
        """When a worker of its first stage got it; 0: none did."""
        return 0.0 if self.first is None else self.first.sent_at


class _Step:
    """Takes one stage's answer and carries it to the next stage, or to the client."""

    def __init__(self, hub: "PipelineHub", journey: Journey, stage: int, body: bytes) -> None:
        self._hub = hub
        self._journey = journey
        self._stage = stage
        self._body = body

    def withdraw(self) -> None:
        """What this stage was given is not wanted any more."""
        discard(self._body)

    def deliver(self, kind: int, payload: bytes) -> None:
        """Hub: a message of this stage's worker."""
        if kind in FINAL:
            discard(self._body)
        if kind == Kind.PACKED and self._stage + 1 < len(self._hub.hubs):
            self._hub.go_on(self._journey, self._stage + 1, payload)
        else:
            self._journey.sink.deliver(kind, payload)


class PipelineHub:
    """As `Hub`, for several in a row.

    Args:
        hubs: One a stage.
        metrics: Shared by the stages; its gauges become the sums over them.
    """

    def __init__(self, hubs: Sequence[Hub], plan: Plan, metrics: ApiMetrics) -> None:
        self.hubs = list(hubs)
        self.policy = plan.policy
        self.limits = hubs[0].limits
        self.metrics = metrics
        self.has_worker = _All([hub.has_worker for hub in hubs])
        self._loop = asyncio.get_running_loop()
        metrics.gauges["in_flight"] = lambda: sum(hub.in_flight for hub in self.hubs)
        metrics.gauges["queue_depth"] = lambda: sum(hub.queue_depth for hub in self.hubs)

    def submit(
        self,
        body: Body,
        sink: Sink,
        *,
        priority: int = 0,
        timeout_s: float | None = None,
        meta: bytes | None = None,
        kind: int = Kind.REQUEST,
    ) -> Journey:
        """As `Hub.submit`; the bound of the queue holds for all stages together."""
        if sum(hub.queue_depth for hub in self.hubs) >= self.limits.max_queue:
            raise Rejected(429, "Too many requests are waiting; try again later.", 1)
        journey = Journey(sink, priority, meta, kind if kind == Kind.VALUE else Kind.PASS)
        step = _Step(self, journey, 0, b"")
        journey.hub = self.hubs[0]
        journey.first = journey.current = journey.hub.submit(
            body, step, priority=priority, timeout_s=timeout_s, meta=meta, kind=kind
        )
        return journey

    def go_on(self, journey: Journey, stage: int, payload: bytes) -> None:
        """Hand one stage's answer to the next; the client's deadline travels along."""
        assert journey.current is not None
        now = self._loop.time()
        left_s = max(LEAST_LEFT_S, journey.current.deadline - now)
        step = _Step(self, journey, stage, payload)
        journey.hub = self.hubs[stage]
        kind = journey.last_kind if stage + 1 == len(self.hubs) else Kind.PASS
        try:
            journey.current = journey.hub.submit(
                payload,
                step,
                priority=journey.priority,
                timeout_s=left_s,
                meta=journey.meta,
                kind=kind,
                inner=True,
            )
            journey.current.spent_s = now - journey.admitted_at
        except Rejected as rejected:
            discard(payload)
            journey.sink.deliver(Kind.ERROR, msgspec.json.encode(rejected.failure))

    def send(self, journey: Journey, kind: int, payload: bytes = b"") -> None:
        """As `Hub.send`."""
        if journey.hub is not None and journey.current is not None:
            journey.hub.send(journey.current, kind, payload)

    def cancel(self, journey: Journey) -> None:
        """As `Hub.cancel`, wherever the request is."""
        if journey.hub is not None and journey.current is not None:
            journey.hub.cancel(journey.current)
            if isinstance(journey.current.sink, _Step):
                journey.current.sink.withdraw()

    def pause(self, journey: Journey) -> None:
        """As `Hub.pause`."""
        if journey.hub is not None and journey.current is not None:
            journey.hub.pause(journey.current)

    def resume(self, journey: Journey) -> None:
        """As `Hub.resume`."""
        if journey.hub is not None and journey.current is not None:
            journey.hub.resume(journey.current)

    # -- as the server sees a hub ---------------------------------------------------------------------------

    @property
    def workers_ready(self) -> int:
        """How many workers answer at the stage that has fewest."""
        return min(hub.workers_ready for hub in self.hubs)

    @property
    def dead_reason(self) -> str | None:
        """Why a stage will never answer again."""
        return next((hub.dead_reason for hub in self.hubs if hub.dead_reason is not None), None)

    @property
    def draining(self) -> bool:
        """Whether new requests are refused."""
        return self.hubs[0].draining

    @property
    def on_call(self) -> OnCall | None:
        """Who carries the workers' calls to other APIs."""
        return self.hubs[0].on_call

    @on_call.setter
    def on_call(self, on_call: OnCall | None) -> None:
        for hub in self.hubs:
            hub.on_call = on_call

    async def drain(self, timeout_s: float) -> None:
        """As `Hub.drain`, stage by stage: what one has finished the next still takes."""
        deadline = self._loop.time() + timeout_s
        for hub in self.hubs:
            await hub.drain(max(0.0, deadline - self._loop.time()))

    def fail_all(self, reason: str) -> None:
        """As `Hub.fail_all`."""
        for hub in self.hubs:
            hub.fail_all(reason)

    def die(self, reason: str) -> None:
        """As `Hub.die`."""
        for hub in self.hubs:
            hub.die(reason)


class _All:
    """An event that is set when all of several are."""

    def __init__(self, events: Sequence[asyncio.Event]) -> None:
        self._events = events

    async def wait(self) -> bool:
        """Wait for every one."""
        for event in self._events:
            await event.wait()
        return True

    def is_set(self) -> bool:
        """Whether every one is set."""
        return all(event.is_set() for event in self._events)


class PipelinePool:
    """As `Pool`, for several in a row: the supervisor's side.

    Args:
        pools: One a stage.
        plan: The pipeline's.
        metrics: Shared by the stages.
    """

    def __init__(self, pools: Sequence[Pool], plan: Plan, metrics: ApiMetrics) -> None:
        self.pools = list(pools)
        self.plan = plan
        self.hub = PipelineHub([pool.hub for pool in pools], plan, metrics)
        metrics.gauges["workers"] = lambda: sum(pool.size for pool in self.pools)
        metrics.gauges["workers_ready"] = lambda: sum(pool.hub.workers_ready for pool in self.pools)

    def start(self) -> None:
        """Start every stage's workers."""
        for pool in self.pools:
            pool.start()

    async def stop(self, patience_s: float) -> None:
        """End every stage's workers."""
        await asyncio.gather(*(pool.stop(patience_s) for pool in self.pools))

    @property
    def pids(self) -> list[int]:
        """Process ids of the live workers."""
        return [pid for pool in self.pools for pid in pool.pids]

    @property
    def workers(self) -> list[Worker]:
        """The live workers, ready or not."""
        return [worker for pool in self.pools for worker in pool.workers]

    def waiting_for(self) -> str | None:
        """Why no answer can be given yet, as a sentence; None if one can."""
        return next((why for pool in self.pools if (why := pool.waiting_for()) is not None), None)
