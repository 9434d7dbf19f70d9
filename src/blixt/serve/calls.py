"""Calls between the APIs of one server, in the front: a worker's question goes to another API's hub.

A call is made in the name of the requests that the worker answers just then. It inherits what they have: the
time that is left to the most patient of them, the highest priority, and the first one's request id and trace.
When nobody waits for any of them any more, the call is cancelled and the worker told so.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec

from blixt.serve.errors import Failure
from blixt.serve.handoff import discard
from blixt.serve.hub import Hub
from blixt.serve.link import Link
from blixt.serve.plan import Plan
from blixt.serve.request import Meta, Rejected, Request, State
from blixt.serve.wire import FINAL, Kind

CLIENT_LEFT = 499
_question = msgspec.json.Decoder(tuple[str, float | None, list[int]])
_meta = msgspec.json.Decoder(Meta)


class Callee(Protocol):
    """A pool, as far as calls need it."""

    hub: Hub
    plan: Plan


def connect(pools: Iterable[Callee], running_timeout: bool = True) -> None:
    """Let every API call every other by its class name or path.

    Args:
        pools: Those of the APIs.
        running_timeout: Whether requests that have begun can be late, and so their calls.
    """
    peers: dict[str, Hub] = {}
    for pool in pools:
        for name in (pool.plan.name, pool.plan.api.api_path, pool.plan.api.api_path.strip("/")):
            peers.setdefault(name, pool.hub)
    for hub in set(peers.values()):
        hub.on_call = partial(_on_call, peers, running_timeout)


class _CallSink:
    """Waits for an answer and sends it to the worker that asked."""

    def __init__(self, link: Link, id: int, question: bytes, hub: Hub, callers: Sequence[Request]) -> None:
        self._link = link
        self._id = id
        self._question = question
        self._hub = hub
        self._callers = list(callers)
        self._ticket: Any = None

    def submit(self, timeout_s: float | None) -> None:
        """Ask the other API.

        Raises:
            Rejected: It refuses.
        """
        callers = self._callers
        self._ticket = self._hub.submit(
            self._question,
            self,
            priority=max((caller.priority for caller in callers), default=0),
            timeout_s=timeout_s,
            meta=_inherited(callers[0].meta) if callers else None,
            kind=Kind.VALUE,
        )
        for caller in callers:
            caller.calls = [*(caller.calls or ()), self]

    def deliver(self, kind: int, payload: bytes) -> None:
        """Hub: a message; only the last matters, since streams cannot be called for."""
        if kind in FINAL:
            for caller in self._callers:
                if caller.calls is not None:
                    caller.calls.remove(self)
            discard(self._question)
            self.tell(kind, payload)

    def caller_left(self, request: Request) -> None:
        """Nobody waits for a request any more in whose name the call was made."""
        self._callers.remove(request)
        if not self._callers:
            self._hub.cancel(self._ticket)
            discard(self._question)
            self.tell(Kind.ERROR, _LEFT)

    def tell(self, kind: int, payload: bytes) -> None:
        """Answer the worker, if it is still there."""
        if self._link.is_open:
            self._link.send_control(self._id, Kind.RESULT, bytes((kind,)) + payload)
        elif kind == Kind.PACKED:
            discard(payload)


_LEFT = msgspec.json.encode(Failure(CLIENT_LEFT, "Nobody waits any more for the request that called."))


def _on_call(peers: Mapping[str, Hub], running_timeout: bool, link: Link, id: int, payload: bytes) -> None:
    start = 4 + int.from_bytes(payload[:4], "little")
    name, timeout_s, ids = _question.decode(payload[4:start])
    question = payload[start:]
    held = [request for caller in ids if (request := link.in_flight.get(caller)) is not None]
    callers = [request for request in held if request.state is State.SENT]
    hub = peers.get(name)
    try:
        if hub is None:
            known = ", ".join(sorted(peer for peer in peers if not peer.startswith("/")))
            raise Rejected(404, f"This server has no API called {name!r}; it has {known}.", 1)
        sink = _CallSink(link, id, question, hub, callers)
        if held and not callers:
            discard(question)
            return sink.tell(Kind.ERROR, _LEFT)
        sink.submit(_patience_s(callers, timeout_s) if running_timeout else timeout_s)
    except Rejected as rejected:
        discard(question)
        refusal = bytes((Kind.ERROR,)) + msgspec.json.encode(rejected.failure)
        link.send_control(id, Kind.RESULT, refusal)


def _patience_s(callers: Sequence[Request], timeout_s: float | None) -> float | None:
    """How long a call may take: what it says, or as long as somebody waits; None: what the server says.

    Raises:
        Rejected: That time is over.
    """
    left_s = max((caller.ends_at for caller in callers), default=float("inf"))
    if left_s == float("inf"):
        return timeout_s
    left_s -= asyncio.get_running_loop().time()
    if left_s <= 0:
        raise Rejected(504, "The request that made this call has no time left.", 1)
    return left_s if timeout_s is None else min(left_s, timeout_s)


def _inherited(meta: bytes | None) -> bytes | None:
    """What a call tells of the request that made it."""
    if meta is None:
        return None
    said = _meta.decode(meta)
    if not (said.request_id or said.traceparent):
        return None
    return msgspec.json.encode(Meta(request_id=said.request_id, traceparent=said.traceparent))
