"""A worker asking other APIs of its server: the question travels over the front, as packed values."""

import itertools
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from blixt.serve.errors import ConfigError, Failure, HTTPError
from blixt.serve.handoff import discard, pack, unpack
from blixt.serve.plan import Plan
from blixt.serve.wire import Kind
from blixt.serve.worker.channel import FRONT_SHIFT, ID_MASK, Channel
from blixt.serve.worker.inbox import Inbox

_failure = msgspec.json.Decoder(Failure)
_question = msgspec.json.Encoder()


def connect(plan: Plan, inbox: Inbox) -> None:
    """Let `API.call` of a blocking worker wait for its answer, while other messages gather in the inbox."""
    count, folder = itertools.count(1), plan.folder

    owner = threading.get_ident()

    def send(target: str, x: Any, timeout_s: float | None) -> Any:
        if threading.get_ident() != owner:
            raise ConfigError("API.call() was used in another thread than the one that runs the hooks.")
        channel, callers = inbox.channel, inbox.current
        id = call_id(channel, callers, next(count))
        inbox.asked.add(id)
        send_call(channel, id, Question(target, timeout_s, callers), x, folder)
        channel.flush()
        while id not in inbox.results:
            inbox.fill(block=True)
        return result_of(inbox.results.pop(id))

    plan.api._send_call = send  # pyright: ignore[reportPrivateUsage]


class Question(NamedTuple):
    """What is asked of another API, besides the value.

    Attributes:
        target: Its class name or path.
        timeout_s: How long it may take; None: as long as the callers' clients wait.
        callers: The requests in whose name it is asked, as the worker knows them.
    """

    target: str
    timeout_s: float | None
    callers: Sequence[int]


def call_id(channel: Channel, callers: Sequence[int], count: int) -> int:
    """A call's id: it goes over the front that its callers came from."""
    front = callers[0] >> FRONT_SHIFT if callers else channel.recent_front
    return front << FRONT_SHIFT | count & 0x7FFF_FFFF


def send_call(channel: Channel, id: int, question: Question, x: Any, folder: str | None) -> None:
    """Put a question into the next frame: `u32 length | JSON [target, timeout, callers] | packed value`."""
    front = id >> FRONT_SHIFT
    callers = [caller & ID_MASK for caller in question.callers if caller >> FRONT_SHIFT == front]
    head = _question.encode((question.target, question.timeout_s, callers))
    channel.answer(id, Kind.CALL, len(head).to_bytes(4, "little") + head + pack(x, folder))


def result_of(payload: bytes) -> Any:
    """A call's answer.

    Raises:
        HTTPError: It came to an error.
    """
    kind, rest = payload[0], payload[1:]
    if kind == Kind.PACKED:
        value = unpack(rest)
        discard(rest)
        return value
    if kind == Kind.ERROR:
        failure = _failure.decode(rest)
        raise HTTPError(failure.status, failure.detail, failure.headers)
    raise HTTPError(502, "The other API streams; only whole answers can be called for.")
