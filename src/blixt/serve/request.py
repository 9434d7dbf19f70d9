"""One request on its way, its states, who waits for it, and why it may be refused.

QUEUED -> SENT -> DONE           answered
QUEUED -> DONE                   cancelled or too late while waiting: costs nobody anything
SENT -> ABANDONED -> DONE        nobody waits any more; the worker is told and owes a last message
SENT -> QUEUED                   its worker died before it was begun
"""

import asyncio
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from blixt.serve.errors import Failure

if TYPE_CHECKING:
    from blixt.serve.link import Link


class State(Enum):
    """Where a request is."""

    QUEUED = "queued"
    SENT = "sent"
    ABANDONED = "abandoned"
    DONE = "done"


class Sink(Protocol):
    """Who waits for a request's messages: a plain answer, a stream, later the hot lane."""

    def deliver(self, kind: int, payload: bytes) -> None:
        """Take OK, RAW, CHUNK, END or ERROR. Nothing follows the first message of `wire.FINAL`."""
        ...


class Request:
    """One request on its way."""

    __slots__ = (
        "admitted_at",
        "body",
        "deadline",
        "id",
        "kill_timer",
        "link",
        "sequence",
        "sink",
        "state",
        "streamed",
    )

    def __init__(self, id: int, body: bytes, sink: Sink, now: float, deadline: float) -> None:
        self.id = id
        self.body = body
        self.sink = sink
        self.admitted_at = now
        self.deadline = deadline
        self.state = State.QUEUED
        self.link: Link | None = None
        self.sequence = 0
        self.streamed = False
        self.kill_timer: asyncio.TimerHandle | None = None


class Rejected(Exception):
    """The request was not admitted; `failure` is the answer."""

    def __init__(self, status: int, detail: str, retry_after_s: int, **headers: str) -> None:
        super().__init__(detail)
        self.failure = Failure(status, detail, {"retry-after": str(retry_after_s), **headers})
