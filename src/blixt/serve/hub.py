"""The heart of the front: who is admitted, which worker gets what when, and who has waited too long.

One hub an API, single-threaded on the event loop, without locks. The states of a request are in `request`.
"""

import asyncio
from collections.abc import Callable

import msgspec

from blixt.serve.batching import Policy
from blixt.serve.config import Limits
from blixt.serve.errors import Failure
from blixt.serve.handoff import discard
from blixt.serve.hub_admission import Admission
from blixt.serve.hub_cache import cache_of
from blixt.serve.hub_deadlines import Deadlines
from blixt.serve.hub_dispatch import Dispatch
from blixt.serve.hub_queue import Queue
from blixt.serve.hub_rules import Rules
from blixt.serve.link import Link
from blixt.serve.metrics import ApiMetrics
from blixt.serve.request import Body, Rejected, Request, Sink, State
from blixt.serve.wire import FINAL, Kind, Message

_CHUNK, _CALL, _OPEN, _REQUEST = int(Kind.CHUNK), int(Kind.CALL), int(Kind.OPEN), int(Kind.REQUEST)
_QUEUED, _SENT, _ABANDONED, _DONE = State.QUEUED, State.SENT, State.ABANDONED, State.DONE
MAX_PENDING = 64
LEAST_GRACE_S = 0.1
OnCall = Callable[[Link, int, bytes], None]


class Hub:
    """Queue, dispatch, deadlines and cancellation of one API.

    Args:
        policy: How requests are grouped.
        limits: Bounds and deadlines.
        metrics: What to count into.
        kill: Called with the link of a worker that hangs.
        rules: The API's own say in priority and cost, and who is told of requests.
    """

    def __init__(
        self,
        policy: Policy,
        limits: Limits,
        metrics: ApiMetrics,
        kill: Callable[[Link], None],
        rules: Rules = Rules(),
    ) -> None:
        self.policy = policy
        self.limits = limits
        self.metrics = metrics
        self.draining = False
        self.dead_reason: str | None = None
        self.on_call: OnCall | None = None
        self.has_worker = asyncio.Event()
        self._kill = kill
        self._rules = rules
        self._loop = asyncio.get_running_loop()
        self._links: list[Link] = []
        self._queue = Queue()
        self._waiting: dict[int, Request] = {}  # has a client
        self._deadlines = Deadlines(limits.timeout_s, self._on_late)
        self._next_id = 0
        self._cache = cache_of(policy.cache_s, policy.cache_bytes, policy.context_fields)
        self._idle = asyncio.Event()
        self._idle.set()
        self._dispatch = Dispatch(policy, self._queue, self._links, self._send)
        self._admission = Admission(policy, limits, self._queue, self._links, metrics)
        self._learns = self._admission.adaptive is not None
        metrics.gauges["in_flight"] = lambda: len(self._waiting)
        metrics.gauges["queue_depth"] = lambda: self._queue.count
        metrics.gauges["websockets"] = lambda: sum(r.kind == _OPEN for r in self._waiting.values())
        metrics.gauges["streams"] = lambda: sum(r.streamed for r in self._waiting.values())

    # -- clients ------------------------------------------------------------------------------------------

    def submit(
        self,
        body: Body,
        sink: Sink,
        *,
        priority: int = 0,
        timeout_s: float | None = None,
        meta: bytes | None = None,
        kind: int = Kind.REQUEST,
        inner: bool = False,
    ) -> Request:
        """Admit a request; its messages come to `sink`.

        Args:
            body: As the client sent it; a shared one is released when no worker can read it any more.
            sink: Who waits.
            priority: Higher goes first; -10 to 10.
            timeout_s: Shorter than the server's, if the client is in a hurry.
            meta: An encoded `request.Meta`.
            kind: REQUEST, OPEN (a websocket, `body` says what was asked for) or VALUE.
            inner: It was admitted before, as a pipeline's earlier stage: the queue's bound does not count.

        Raises:
            Rejected: Draining or without workers (503), or there is no room (429).
        """
        if self.dead_reason is not None:
            raise Rejected(503, self.dead_reason, 10)
        if self.draining and not inner:
            raise Rejected(503, "The server is shutting down.", 1, connection="close")
        if self._cache is not None and kind == _REQUEST:
            answer, sink = self._cache.look(body, meta, sink, self._loop.time())
            if answer is not None:
                return self._answer_again(body, sink, *answer)
        if not inner:
            self._admission.check(len(body), len(self._waiting))
        now = self._loop.time()
        request = Request(self._new_id(), body, sink, now, priority, meta, kind)
        if self._rules.any:
            self._rules.admit(request, len(self._waiting) + 1)
        self._queue.push(request)
        if not self._waiting:
            self._idle.clear()
        self._waiting[request.id] = request
        self._deadlines.watch(request, now, timeout_s)
        if not self._dispatch.due:
            self._dispatch.soon()
        return request

    def send(self, request: Request, kind: int, payload: bytes = b"") -> None:
        """Pass a client's websocket message (DATA) or its leaving (CLOSE) on to the session."""
        if request.state is _SENT and request.link is not None:
            request.link.send_control(request.id, kind, payload)
        elif request.state is _QUEUED:
            pending = request.pending = request.pending or []
            pending.append((kind, payload))
            if len(pending) == MAX_PENDING:
                request.sink.deliver(Kind.PAUSE, b"")

    def cancel(self, request: Request) -> None:
        """The client has left, or needs no more: free the queue, stop the work. Sends nothing to the sink."""
        if request.state in (_QUEUED, _SENT):
            self.metrics.cancelled += 1
            self._abandon(request, self.limits.timeout_s)

    def pause(self, request: Request) -> None:
        """Hold a stream whose reader is behind."""
        if request.state is _SENT and request.link is not None:
            self.metrics.pauses += 1
            request.link.send_control(request.id, Kind.PAUSE)

    def resume(self, request: Request) -> None:
        """Let a held stream go on."""
        if request.state is _SENT and request.link is not None:
            request.link.send_control(request.id, Kind.RESUME)

    # -- workers ------------------------------------------------------------------------------------------

    def attach(self, link: Link) -> None:
        """A worker is ready."""
        self._links.append(link)
        self.has_worker.set()
        self._dispatch.soon()

    def retire(self, link: Link) -> None:
        """A worker gets nothing new; its link closes, and so it ends, once it has answered what it holds."""
        self._unlist(link)
        link.retiring = True
        if not link.in_flight:
            link.close()

    @property
    def workers_ready(self) -> int:
        """How many workers answer."""
        return len(self._links)

    @property
    def in_flight(self) -> int:
        """Requests admitted and not answered."""
        return len(self._waiting)

    @property
    def queue_depth(self) -> int:
        """Requests waiting for a worker."""
        return self._queue.count

    def on_message(self, link: Link, message: Message) -> None:
        """A worker's message about a request."""
        id, kind, payload = message
        if kind == _CALL:
            if self.on_call is not None:
                self.on_call(link, id, payload)
            return
        request = link.in_flight.get(id)
        if request is None:
            return
        if kind in FINAL:
            del link.in_flight[id]
            if link.retiring and not link.in_flight:
                link.close()
            elif not self._dispatch.due:
                self._dispatch.soon()
            if request.state is _ABANDONED:
                self._bury(request)
                if kind == Kind.PACKED:
                    discard(payload)
            else:
                self._finish(request, kind, payload)
        elif request.state is _SENT:
            if kind == _CHUNK:
                self._progress(request, payload)
            else:
                request.sink.deliver(kind, payload)

    def on_busy(self, busy_us: int) -> None:
        """A worker has computed so long."""
        self.metrics.busy_us += busy_us

    def detach(self, link: Link) -> None:
        """A worker has gone: what it had begun fails or is tried again, the rest is queued, first."""
        self._unlist(link)
        held = list(link.in_flight.values())
        link.in_flight.clear()
        for request in reversed(held):
            request.drop_calls()
            if request.state is _ABANDONED:
                self._bury(request)
            elif link.has_begun(request) and not self._may_retry(request):
                detail = "The worker died while it answered this request; try again."
                self._fail(request, Failure(503, detail, {"retry-after": "1", "x-blixt-began": "1"}))
            else:
                request.state, request.link = _QUEUED, None
                self._queue.push(request, first=True)
        self._dispatch.soon()

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
        self._deadlines.close()
        self._dispatch.close()

    # -- inside: states -------------------------------------------------------------------------------------

    def _answer_again(self, body: Body, sink: Sink, kind: int, payload: bytes) -> Request:
        """Give a kept answer; after the caller, who waits for it, has this ticket."""
        now = self._loop.time()
        request = Request(self._new_id(), body, sink, now)
        request.state = _DONE
        request.release()
        self.metrics.cache_hits += 1
        self._loop.call_soon(sink.deliver, kind, payload)
        return request

    def _new_id(self) -> int:
        while True:
            self._next_id = id = self._next_id % 0xFFFF_FFFF + 1
            if id not in self._waiting:
                return id

    def _unlist(self, link: Link) -> None:
        if link in self._links:
            self._links.remove(link)
            if not self._links:
                self.has_worker.clear()

    def _may_retry(self, request: Request) -> bool:
        request.attempts += 1
        return request.attempts <= self.policy.retries and not request.streamed and request.kind != Kind.OPEN

    def _leave(self, request: Request) -> None:
        """Forget the client."""
        self._waiting.pop(request.id, None)
        self._deadlines.forget(request)
        if not self._waiting:
            self._idle.set()

    def _finish(self, request: Request, kind: int, payload: bytes) -> None:
        request.state = _DONE
        if self._learns and not request.streamed and request.kind != _OPEN:
            self._admission.answered(request, self._loop.time())
        self._leave(request)
        request.release()
        request.sink.deliver(kind, payload)
        if self._rules.on_response:
            self._rules.answered(len(self._waiting))

    def _fail(self, request: Request, failure: Failure) -> None:
        self._finish(request, Kind.ERROR, msgspec.json.encode(failure))

    def _progress(self, request: Request, payload: bytes) -> None:
        now = self._loop.time()
        self.metrics.pieces += 1
        if not request.streamed:
            request.streamed = True
            self.metrics.first_piece_seconds.observe(now - request.admitted_at + request.spent_s)
            self._admission.answered(request, now)
        self._deadlines.progressed(request, now)
        request.sink.deliver(_CHUNK, payload)

    def _abandon(self, request: Request, patience_s: float) -> None:
        """Nobody waits any more; a worker that holds it may do so for `patience_s` and a grace."""
        self._leave(request)
        link = request.link
        if request.state is _QUEUED or link is None:
            self._queue.discard(request)
            request.state = _DONE
            request.release()
            return
        request.state = _ABANDONED
        link.send_control(request.id, Kind.CANCEL)
        request.drop_calls()
        patience_s += self.limits.kill_grace_s
        if patience_s != float("inf"):
            request.kill_timer = self._loop.call_later(patience_s, self._kill_if_held, link, request)

    def _give_up(self, request: Request, failure: Failure, patience_s: float = 0.0) -> None:
        """Tell the client now; a worker that holds the request has `patience_s` and the grace left."""
        self._abandon(request, patience_s)
        request.sink.deliver(Kind.ERROR, msgspec.json.encode(failure))

    def _bury(self, request: Request) -> None:
        request.state = _DONE
        request.release()
        if request.kill_timer is not None:
            request.kill_timer.cancel()

    def _kill_if_held(self, link: Link, request: Request) -> None:
        if link.in_flight.get(request.id) is not request:
            return
        if link.hangs_with(request):
            self._kill(link)
        else:  # it waits in there behind another one, and will be passed over
            again_s = max(self.limits.kill_grace_s, LEAST_GRACE_S)
            request.kill_timer = self._loop.call_later(again_s, self._kill_if_held, link, request)

    def _on_late(self, request: Request) -> None:
        if not self.limits.running_timeout and request.state is _SENT:
            link = request.link
            if link is not None and link.has_begun(request):
                return
        waited_s = request.deadline - request.admitted_at + request.spent_s
        # A client in a hurry must not cost the worker its life: that has the server's own time.
        left_s = request.admitted_at + self.limits.timeout_s - self._loop.time()
        self._give_up(request, Failure(504, f"No answer within {waited_s:.6g} s."), max(0.0, left_s))

    # -- inside: to the workers ------------------------------------------------------------------------------

    def _send(self, link: Link, requests: list[Request]) -> None:
        now = self._loop.time()
        waits_s = [now - request.admitted_at for request in requests]
        self.metrics.batch_sizes.observe(len(requests))
        self.metrics.queue_seconds.observe_all(waits_s)
        if self.policy.batched:
            self.metrics.batch_wait_seconds.observe(max(waits_s))
        for request in requests:
            request.state = _SENT
            request.link = link
            request.sent_at = now
            if request.kind == _OPEN:
                self._deadlines.forget(request)  # a session may be silent for as long as it likes
                request.deadline = float("inf")
        link.send_requests(requests)
        for request in requests:
            if request.pending is not None:
                self._send_pending(link, request)

    def _send_pending(self, link: Link, request: Request) -> None:
        pending, request.pending = request.pending or [], None
        for kind, payload in pending:
            link.send_control(request.id, kind, payload)
        if len(pending) >= MAX_PENDING:
            request.sink.deliver(Kind.RESUME, b"")
