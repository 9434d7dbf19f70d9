"""The heart of the front: who is admitted, which worker gets what when, and who has waited too long.

One hub an API, single-threaded on the event loop, without locks. The states of a request are in `request`.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from blixt.serve.batching import Policy, batch_now, credit
from blixt.serve.config import Limits
from blixt.serve.errors import Failure
from blixt.serve.link import Link
from blixt.serve.metrics import ApiMetrics
from blixt.serve.request import Rejected, Request, Sink, State
from blixt.serve.wire import FINAL, Kind, Message


class Hub:
    """Queue, dispatch, deadlines and cancellation of one API.

    Args:
        policy: How requests are grouped.
        limits: Bounds and deadlines.
        metrics: What to count into.
        kill: Called with the link of a worker that hangs.
    """

    def __init__(
        self, policy: Policy, limits: Limits, metrics: ApiMetrics, kill: Callable[[Link], None]
    ) -> None:
        self.policy = policy
        self.limits = limits
        self.metrics = metrics
        self.draining = False
        self.dead_reason: str | None = None
        self._kill = kill
        self._loop = asyncio.get_running_loop()
        self._links: list[Link] = []
        self._queue: OrderedDict[int, Request] = OrderedDict()
        self._queue_bytes = 0
        self._waiting: OrderedDict[int, Request] = OrderedDict()  # has a client; ordered by deadline
        self._next_id = 0
        self._pump_due = False
        self._deadline_timer: asyncio.TimerHandle | None = None
        self._batch_timer: asyncio.TimerHandle | None = None
        self.has_worker = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        metrics.gauges["in_flight"] = lambda: len(self._waiting)
        metrics.gauges["queue_depth"] = lambda: len(self._queue)

    # -- clients ------------------------------------------------------------------------------------------

    def submit(self, body: bytes, sink: Sink) -> Request:
        """Admit a request; its messages come to `sink`.

        Raises:
            Rejected: Draining or without workers (503), or the queue is full (429).
        """
        if self.dead_reason is not None:
            raise Rejected(503, self.dead_reason, 10)
        if self.draining:
            raise Rejected(503, "The server is shutting down.", 1, connection="close")
        limits = self.limits
        if len(self._queue) >= limits.max_queue or self._queue_bytes + len(body) > limits.max_queue_bytes:
            raise Rejected(429, "Too many requests are waiting; try again later.", self._retry_after_s())
        now = self._loop.time()
        request = Request(self._new_id(), body, sink, now, now + limits.timeout_s)
        self._enqueue(request)
        self._waiting[request.id] = request
        self._idle.clear()
        if self._deadline_timer is None:
            self._deadline_timer = self._loop.call_at(request.deadline, self._check_deadlines)
        self._pump_soon()
        return request

    def cancel(self, request: Request) -> None:
        """The client has left, or needs no more: free the queue, stop the work. Sends nothing to the sink."""
        if request.state in (State.QUEUED, State.SENT):
            self.metrics.cancelled += 1
            self._abandon(request, self.limits.timeout_s)

    def pause(self, request: Request) -> None:
        """Hold a stream whose reader is behind."""
        if request.state is State.SENT and request.link is not None:
            self.metrics.pauses += 1
            request.link.send_control(request.id, Kind.PAUSE)

    def resume(self, request: Request) -> None:
        """Let a held stream go on."""
        if request.state is State.SENT and request.link is not None:
            request.link.send_control(request.id, Kind.RESUME)

    # -- workers ------------------------------------------------------------------------------------------

    def attach(self, link: Link) -> None:
        """A worker is ready."""
        self._links.append(link)
        self.has_worker.set()
        self._pump_soon()

    @property
    def workers_ready(self) -> int:
        """How many workers answer."""
        return len(self._links)

    def on_message(self, link: Link, message: Message) -> None:
        """A worker's message about a request."""
        request = link.in_flight.get(message.id)
        if request is None:
            return
        if message.kind in FINAL:
            del link.in_flight[message.id]
            self._pump_soon()
            if request.state is State.ABANDONED:
                self._bury(request)
            else:
                self._finish(request, message.kind, message.payload)
        elif request.state is State.SENT:
            self._progress(request, message.payload)

    def on_busy(self, busy_us: int) -> None:
        """A worker has computed so long."""
        self.metrics.busy_us += busy_us

    def detach(self, link: Link) -> None:
        """A worker has gone: what it had begun fails, the rest goes back to the head of the queue."""
        if link in self._links:
            self._links.remove(link)
            if not self._links:
                self.has_worker.clear()
        held = list(link.in_flight.values())
        link.in_flight.clear()
        for request in reversed(held):
            if request.state is State.ABANDONED:
                self._bury(request)
            elif link.has_begun(request):
                detail = "The worker died while it answered this request; try again."
                self._fail(request, Failure(503, detail, {"retry-after": "1"}))
            else:
                request.state, request.link = State.QUEUED, None
                self._enqueue(request)
                self._queue.move_to_end(request.id, last=False)
        self._pump_soon()

    # -- end of life ----------------------------------------------------------------------------------------

    async def drain(self, timeout_s: float) -> None:
        """Refuse new requests and wait for those admitted; after `timeout_s` they fail."""
        self.draining = True
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            self.fail_all("The server is shutting down.")

    def fail_all(self, reason: str) -> None:
        """Answer everyone with 503."""
        for request in list(self._waiting.values()):
            self._give_up(request, Failure(503, reason, {"retry-after": "1"}))

    def die(self, reason: str) -> None:
        """There will be no worker again: fail everyone, now and later."""
        self.dead_reason = reason
        self.fail_all(reason)

    def close(self) -> None:
        """Drop the timers; call after the workers have gone."""
        for timer in (self._deadline_timer, self._batch_timer):
            if timer is not None:
                timer.cancel()

    # -- inside: states -------------------------------------------------------------------------------------

    def _new_id(self) -> int:
        while True:
            self._next_id = self._next_id % 0xFFFF_FFFF + 1
            if self._next_id not in self._waiting:
                return self._next_id

    def _enqueue(self, request: Request) -> None:
        self._queue[request.id] = request
        self._queue_bytes += len(request.body)

    def _dequeue(self) -> Request:
        _, request = self._queue.popitem(last=False)
        self._queue_bytes -= len(request.body)
        return request

    def _leave(self, request: Request) -> None:
        """Forget the client."""
        self._waiting.pop(request.id, None)
        if self._queue.pop(request.id, None) is not None:
            self._queue_bytes -= len(request.body)
        if not self._waiting:
            self._idle.set()

    def _finish(self, request: Request, kind: int, payload: bytes) -> None:
        request.state = State.DONE
        self._leave(request)
        request.sink.deliver(kind, payload)

    def _fail(self, request: Request, failure: Failure) -> None:
        self._finish(request, Kind.ERROR, msgspec.json.encode(failure))

    def _progress(self, request: Request, payload: bytes) -> None:
        now = self._loop.time()
        self.metrics.pieces += 1
        if not request.streamed:
            request.streamed = True
            self.metrics.first_piece_seconds.observe(now - request.admitted_at)
        request.deadline = now + self.limits.timeout_s
        self._waiting.move_to_end(request.id)
        request.sink.deliver(Kind.CHUNK, payload)

    def _abandon(self, request: Request, patience_s: float) -> None:
        """Nobody waits any more; a worker that holds it may do so for `patience_s` and a grace."""
        self._leave(request)
        link = request.link
        if request.state is State.QUEUED or link is None:
            request.state = State.DONE
            return
        request.state = State.ABANDONED
        link.send_control(request.id, Kind.CANCEL)
        patience_s += self.limits.kill_grace_s
        request.kill_timer = self._loop.call_later(patience_s, self._kill_if_held, link, request)

    def _give_up(self, request: Request, failure: Failure) -> None:
        """Tell the client now; a worker that holds the request has only the grace left."""
        self._abandon(request, 0.0)
        request.sink.deliver(Kind.ERROR, msgspec.json.encode(failure))

    def _bury(self, request: Request) -> None:
        request.state = State.DONE
        if request.kill_timer is not None:
            request.kill_timer.cancel()

    def _kill_if_held(self, link: Link, request: Request) -> None:
        if link.in_flight.get(request.id) is request:
            self._kill(link)

    # -- inside: time ---------------------------------------------------------------------------------------

    def _check_deadlines(self) -> None:
        self._deadline_timer = None
        now = self._loop.time()
        while self._waiting:
            request = next(iter(self._waiting.values()))
            if request.deadline > now:
                self._deadline_timer = self._loop.call_at(request.deadline, self._check_deadlines)
                return
            self._give_up(request, Failure(504, f"No answer within {self.limits.timeout_s:g} s."))

    def _retry_after_s(self) -> int:
        """How long the queue needs, as far as the workers' recent speed tells."""
        speeds = [link.service_s for link in self._links if link.service_s]
        if not speeds:
            return 1
        wait_s = len(self._queue) * (sum(speeds) / len(speeds)) / len(speeds)
        return max(1, min(60, round(wait_s)))

    # -- inside: dispatch -----------------------------------------------------------------------------------

    def _pump_soon(self) -> None:
        """Dispatch once a turn of the loop, so that all requests parsed in it share frames."""
        if not self._pump_due:
            self._pump_due = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_due = False
        if not self._queue or not self._links:
            return
        if self.policy.batched:
            self._pump_batches()
        else:
            self._pump_singles()

    def _pump_singles(self) -> None:
        outbox: dict[Link, list[Request]] = {}
        room = {link: credit(self.policy, link.service_s) - len(link.in_flight) for link in self._links}
        load = {link: len(link.in_flight) for link in self._links}
        while self._queue:
            link = min((link for link in self._links if room[link] > 0), key=load.__getitem__, default=None)
            if link is None:
                break
            outbox.setdefault(link, []).append(self._dequeue())
            room[link] -= 1
            load[link] += 1
        for link, requests in outbox.items():
            self._send(link, requests)

    def _pump_batches(self) -> None:
        now = self._loop.time()
        for link in sorted(self._links, key=lambda link: len(link.in_flight)):
            if not self._queue:
                return
            oldest_s = now - next(iter(self._queue.values())).admitted_at
            count = batch_now(self.policy, len(self._queue), oldest_s, len(link.in_flight))
            if count:
                self._send(link, [self._dequeue() for _ in range(count)])
            elif not link.in_flight:
                self._look_again(self.policy.batch_timeout_s - oldest_s)
                return

    def _look_again(self, delay_s: float) -> None:
        if self._batch_timer is not None:
            self._batch_timer.cancel()
        self._batch_timer = self._loop.call_later(max(0.0, delay_s) + 1e-4, self._pump)

    def _send(self, link: Link, requests: list[Request]) -> None:
        now = self._loop.time()
        self.metrics.batch_sizes.observe(len(requests))
        for request in requests:
            request.state, request.link = State.SENT, link
            self.metrics.queue_seconds.observe(now - request.admitted_at)
        link.send_requests(requests)
