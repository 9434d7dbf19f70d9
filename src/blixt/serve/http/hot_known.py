"""Request heads that were parsed before: a client on a connection sends the same bytes again and again.

What the parser makes of a head, and what its headers say to the hub, depends on its bytes alone, so a head
that comes a second time is remembered with the outcome. From then on a read that is this head and a body of
the announced length needs no parser, which is a third of a small request's way through the front. Keys are
checked anew each time, since they can change.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from blixt.serve.http.exchange import RawHeaders
from blixt.serve.http.hot import SLAB_FROM_BYTES, HotProtocol
from blixt.serve.http.hot_exchange import HotExchange
from blixt.serve.http.hot_heads import Heads
from blixt.serve.http.hot_patience import Patience
from blixt.serve.http.hot_routes import HotRoute
from blixt.serve.http.meta import Submission
from blixt.serve.service import Service

MAX_HEADS = 1024
MAX_HEAD_BYTES = 2048
MAX_MISSES = 16
NOT_AGAIN = frozenset({b"expect", b"traceparent", b"x-request-id"})
"""With one of these a head will hardly come again, or asks for more than its answer."""
_END = b"\r\n\r\n"


class Known(NamedTuple):
    """What came of a head.

    Attributes:
        size_bytes: Of the whole request: the head and the body that it announces.
        route: Where it goes.
        submission: What the hub is told.
        noted: The headers that mean something here.
        headers: All of them, for the check of keys.
    """

    size_bytes: int
    route: HotRoute
    submission: Submission
    noted: dict[bytes, bytes]
    headers: RawHeaders


class KnownHeads:
    """The heads of all connections of a server, by their bytes."""

    __slots__ = ("_heads", "find")

    def __init__(self) -> None:
        self._heads: dict[bytes, Known | None] = {}  # None: seen once
        self.find = self._heads.get

    def __len__(self) -> int:
        return len(self._heads)

    def learn(self, head: bytes, known: Known) -> None:
        """Note a head; it is known from the second time on."""
        heads = self._heads
        if head in heads:
            heads[head] = known
            return
        if len(heads) >= MAX_HEADS:
            heads.clear()  # somebody's heads are all different; what comes often is learned again at once
        heads[head] = None


class KnowingProtocol(HotProtocol):
    """A connection that looks a read up before it parses it.

    Args:
        known: The heads of the server.
        hot: What `HotProtocol` wants.
    """

    def __init__(self, known: KnownHeads, *hot: Any, **uvicorn: Any) -> None:
        super().__init__(*hot, **uvicorn)
        self._known = known
        # In a row; beyond the bound this connection's reads are not looked up any more, as are those of a
        # server that counts connections, each of whose requests must be looked at.
        self._misses = 0 if self.limit_concurrency is None else MAX_MISSES + 1

    def data_received(self, data: bytes) -> None:
        """Asyncio: one whole request with a known head, or something for the parser."""
        if self._misses > MAX_MISSES or not self._is_between_requests():
            super().data_received(data)
            return
        head = data[: data.find(_END, 0, MAX_HEAD_BYTES) + len(_END)]
        known = self._known.find(head)
        if known is not None and known.size_bytes == len(data):
            _, route, submission, noted, headers = known
            if route.gate.authorized(headers):
                self._misses = 0
                self.seen_at = self.loop.time()
                self.cycle = self._active = exchange = HotExchange(self, route, submission, True, noted)
                exchange.receive_whole(data[len(head) :])
                return
        self._misses += 1
        before = self.cycle
        super().data_received(data)
        if type(self.cycle) is HotExchange and self.cycle is not before:
            self._learn(self.cycle, head, len(data))

    def _is_between_requests(self) -> bool:
        active = self._active
        return (
            not (self._in_body or self._in_head or self.pipeline)
            and (active is None or active.response_complete)
            and self._verdict is None
            and not self._closing.lingers
        )

    def _learn(self, exchange: HotExchange, head: bytes, size_bytes: int) -> None:
        """Remember a head if its read was nothing but one whole request."""
        noted = exchange.noted
        is_whole = not exchange.more_body and len(head) + exchange.size == size_bytes < SLAB_FROM_BYTES
        may_come_again = exchange.keep_alive and NOT_AGAIN.isdisjoint(noted)
        if is_whole and may_come_again and b"content-length" in noted:
            known = Known(size_bytes, exchange.route, exchange.submission, noted, self.headers)
            self._known.learn(head, known)

    def _upgrade(self) -> None:
        self._misses = MAX_MISSES + 1  # what the parser makes of further bytes is its own affair
        super()._upgrade()


def protocol_factory(routes: Mapping[bytes, HotRoute], service: Service) -> Callable[..., KnowingProtocol]:
    """What uvicorn calls for each connection."""
    comments = min((route.gate.keep_alive_s for route in routes.values()), default=float("inf"))
    patience, heads = Patience.of(service.limits, comments), Heads()
    known = KnownHeads()

    def make(**uvicorn: Any) -> KnowingProtocol:
        return KnowingProtocol(known, routes, service.slab, patience, heads, **uvicorn)

    return make
