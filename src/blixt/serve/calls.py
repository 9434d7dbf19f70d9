"""Calls between the APIs of one server, in the front: a worker's question goes to another API's hub."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Protocol

import msgspec

from blixt.serve.errors import Failure
from blixt.serve.handoff import discard
from blixt.serve.hub import Hub
from blixt.serve.link import Link
from blixt.serve.plan import Plan
from blixt.serve.request import Rejected
from blixt.serve.wire import FINAL, Kind

_target = msgspec.json.Decoder(tuple[str, float | None])


class Callee(Protocol):
    """A pool, as far as calls need it."""

    hub: Hub
    plan: Plan


def connect(pools: Iterable[Callee]) -> None:
    """Let every API call every other by its class name or path."""
    peers: dict[str, Hub] = {}
    for pool in pools:
        for name in (pool.plan.name, pool.plan.api.api_path, pool.plan.api.api_path.strip("/")):
            peers.setdefault(name, pool.hub)
    for hub in set(peers.values()):
        hub.on_call = partial(_on_call, peers)


class _CallSink:
    """Waits for an answer and sends it to the worker that asked."""

    def __init__(self, link: Link, id: int, question: bytes) -> None:
        self._link = link
        self._id = id
        self._question = question

    def deliver(self, kind: int, payload: bytes) -> None:
        """Hub: a message; only the last matters, since streams cannot be called for."""
        if kind in FINAL:
            discard(self._question)
            self.tell(kind, payload)

    def tell(self, kind: int, payload: bytes) -> None:
        """Answer the worker, if it is still there."""
        if self._link.is_open:
            self._link.send_control(self._id, Kind.RESULT, bytes((kind,)) + payload)
        elif kind == Kind.PACKED:
            discard(payload)


def _on_call(peers: Mapping[str, Hub], link: Link, id: int, payload: bytes) -> None:
    start = 2 + int.from_bytes(payload[:2], "little")
    name, timeout_s = _target.decode(payload[2:start])
    question = payload[start:]
    sink = _CallSink(link, id, question)
    hub = peers.get(name)
    try:
        if hub is None:
            known = ", ".join(sorted(peer for peer in peers if not peer.startswith("/")))
            raise Rejected(404, f"This server has no API called {name!r}; it has {known}.", 1)
        hub.submit(question, sink, timeout_s=timeout_s, kind=Kind.VALUE)
    except Rejected as rejected:
        discard(question)
        failure: Failure = rejected.failure
        sink.tell(Kind.ERROR, msgspec.json.encode(failure))
