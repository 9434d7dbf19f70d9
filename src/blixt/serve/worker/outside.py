"""A worker asking other APIs of its server: the question travels over the front, as packed values."""

import itertools
import threading
from typing import Any

import msgspec

from blixt.serve.errors import ConfigError, Failure, HTTPError
from blixt.serve.handoff import discard, pack, unpack
from blixt.serve.plan import Plan
from blixt.serve.wire import Kind
from blixt.serve.worker.channel import Channel
from blixt.serve.worker.inbox import Inbox

_failure = msgspec.json.Decoder(Failure)
_target = msgspec.json.Encoder()


def connect(plan: Plan, inbox: Inbox) -> None:
    """Let `API.call` of a blocking worker wait for its answer, while other messages gather in the inbox."""
    count, folder = itertools.count(1), plan.folder

    owner = threading.get_ident()

    def send(target: str, x: Any, timeout_s: float | None) -> Any:
        if threading.get_ident() != owner:
            raise ConfigError("API.call() was used in another thread than the one that runs the hooks.")
        channel = inbox.channel
        id = channel.recent_front << 32 | next(count) & 0x7FFF_FFFF
        inbox.asked.add(id)
        send_call(channel, id, target, x, timeout_s, folder)
        channel.flush()
        while id not in inbox.results:
            inbox.fill(block=True)
        return result_of(inbox.results.pop(id))

    plan.api._send_call = send  # pyright: ignore[reportPrivateUsage]


def send_call(
    channel: Channel, id: int, target: str, x: Any, timeout_s: float | None, folder: str | None
) -> None:
    """Put a question into the next frame: `u16 length | JSON [target, timeout] | packed value`."""
    head = _target.encode((target, timeout_s))
    channel.answer(id, Kind.CALL, len(head).to_bytes(2, "little") + head + pack(x, folder))


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
