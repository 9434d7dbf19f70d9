"""Requests out of a queue: one, or as many as make a batch."""

import time
from queue import Empty
from typing import TYPE_CHECKING, Any, NamedTuple

from ..status import LitAPIStatus, LoopResponseType

if TYPE_CHECKING:
    from ..transport.base import MessageTransport
    from .base import LitLoop

SENTINEL = (None, None, None, None)
"""In the place of a request: no more will come."""


class StopLoop(Exception):
    """The sentinel came."""

    def __init__(self) -> None:
        super().__init__("Received sentinel value, stopping loop")


class Request(NamedTuple):
    """A request in the queue.

    Attributes:
        consumer: Who asks.
        uid: Which of their requests it is.
        since: When it was put there, by `time.monotonic()`.
        body: What `decode_request` gets.
    """

    consumer: int
    uid: str
    since: float
    body: Any


def take(queue: Any, **patience: Any) -> Request:
    """The next request.

    Raises:
        StopLoop: No more will come.
        queue.Empty: None came in time.
    """
    item = queue.get(**patience)
    if item == SENTINEL:
        raise StopLoop
    return Request(*item)


def response_type(lit_api: Any) -> LoopResponseType:
    """How its requests are answered."""
    return LoopResponseType.STREAMING if lit_api.stream else LoopResponseType.REGULAR


def waited_too_long(lit_api: Any, since: float) -> bool:
    """Whether a request is older than its API's timeout."""
    timeout_s = lit_api.request_timeout
    return bool(timeout_s) and timeout_s != -1 and time.monotonic() - since > timeout_s


def collate_requests(
    loop: "LitLoop", lit_api: Any, request_queue: Any, transport: "MessageTransport"
) -> tuple[list[tuple[int, str, Any]], list[tuple[int, str]]]:
    """Wait for a batch: until it is full, or `batch_timeout` seconds after its first request.

    Returns:
        `(consumer, uid, body)` of those in the batch, and `(consumer, uid)` of those that waited too long.

    Raises:
        StopLoop: The sentinel came.
    """
    batch: list[tuple[int, str, Any]] = []
    late: list[tuple[int, str]] = []
    closes_at = time.monotonic() + 1.0
    while len(batch) < lit_api.max_batch_size:
        remaining_s = closes_at - time.monotonic()
        try:
            if (batch or late) and (not lit_api.batch_timeout or remaining_s <= 0):
                consumer, uid, since, body = take(request_queue, block=False)
            else:
                consumer, uid, since, body = take(request_queue, timeout=max(remaining_s, 0.0))
        except Empty:
            break
        if not batch and not late:
            closes_at = time.monotonic() + lit_api.batch_timeout
        loop.put_response(transport, consumer, uid, (), LitAPIStatus.START, response_type(lit_api))
        if waited_too_long(lit_api, since):
            late.append((consumer, uid))
        else:
            batch.append((consumer, uid, body))
    return batch, late
