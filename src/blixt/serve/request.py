"""One request on its way, its states, who waits for it, and why it may be refused.

QUEUED -> SENT -> DONE           answered
QUEUED -> DONE                   cancelled or too late while waiting: costs nobody anything
SENT -> ABANDONED -> DONE        nobody waits any more; the worker is told and owes a last message
SENT -> QUEUED                   its worker died before it was begun (or it may be tried again)
"""

from enum import Enum
from typing import TYPE_CHECKING, Protocol, TypeAlias

import msgspec

from blixt.serve.errors import Failure
from blixt.serve.wire import Kind

if TYPE_CHECKING:
    import asyncio  # the workers read Meta from here and need no event loop

    from blixt.serve.link import Link
    from blixt.serve.slab import SlabBody

Body: TypeAlias = "bytes | SlabBody"
"""As the client sent it, or where it lies in memory that the workers share."""
MAX_PRIORITY = 10


class State(Enum):
    """Where a request is."""

    QUEUED = "queued"
    SENT = "sent"
    ABANDONED = "abandoned"
    DONE = "done"


_QUEUED = State.QUEUED


class Sink(Protocol):
    """Who waits for a request's messages: a plain answer, a stream, a websocket, the next stage."""

    def deliver(self, kind: int, payload: bytes) -> None:
        """Take a worker's message, see `wire.Kind`. Nothing follows the first of `wire.FINAL`."""
        ...


class Call(Protocol):
    """A worker's call of another API, as the requests see it in whose name it was made."""

    def caller_left(self, request: "Request") -> None:
        """One of them is not wanted any more."""
        ...


class Meta(msgspec.Struct, omit_defaults=True):
    """What a worker is told about a request besides its body; the payload of `Kind.META`.

    `content_type` is set unless it is JSON, `headers` only if the API's hooks want them.
    """

    content_type: str = ""
    headers: list[tuple[str, str]] = []
    request_id: str = ""
    traceparent: str = ""
    path: str = ""
    query: str = ""


class Request:
    """One request on its way."""

    __slots__ = (
        "admitted_at",
        "attempts",
        "body",
        "calls",
        "cost",
        "deadline",
        "id",
        "kill_timer",
        "kind",
        "link",
        "meta",
        "pending",
        "priority",
        "sent_at",
        "sequence",
        "sink",
        "spent_s",
        "state",
        "streamed",
        "timer",
    )

    def __init__(
        self,
        id: int,
        body: Body,
        sink: Sink,
        now: float,
        priority: int = 0,
        meta: bytes | None = None,
        kind: int = Kind.REQUEST,
    ) -> None:
        self.id = id
        self.body = body
        self.kind = kind
        self.meta = meta
        self.pending: list[tuple[int, bytes]] | None = None  # a session's messages before a worker has it
        self.sink = sink
        self.admitted_at = now
        self.spent_s = 0.0  # before, in the earlier stages of a pipeline
        self.deadline = now
        self.priority = priority
        self.cost = 1.0
        self.attempts = 0
        self.sent_at = 0.0
        self.state = _QUEUED
        self.link: Link | None = None
        self.sequence = 0
        self.streamed = False
        self.timer: asyncio.TimerHandle | None = None
        self.kill_timer: asyncio.TimerHandle | None = None
        self.calls: list[Call] | None = None  # to other APIs, made in its name and not answered yet

    def release(self) -> None:
        """Give a shared body's memory back, once: no worker can read it any more."""
        body, self.body = self.body, b""
        if not isinstance(body, bytes):
            body.release()

    @property
    def ends_at(self) -> float:
        """When its client will give up, unless a stream moves before."""
        return self.deadline if self.timer is None else self.timer.when()

    def drop_calls(self) -> None:
        """Nobody waits for it any more, and so for its calls."""
        calls, self.calls = self.calls, None
        for call in calls or ():
            call.caller_left(self)


class Rejected(Exception):
    """The request was not admitted; `failure` is the answer."""

    def __init__(self, status: int, detail: object, retry_after_s: int, **headers: str) -> None:
        super().__init__(detail)
        self.failure = Failure(status, detail, {"retry-after": str(retry_after_s), **headers})
