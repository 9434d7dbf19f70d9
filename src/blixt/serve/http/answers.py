"""What a worker's message looks like over HTTP: pure functions, shared so that both lanes answer alike."""

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from blixt.serve.errors import Failure
from blixt.serve.http.exchange import BYTES, JSON, RawHeaders, raw_headers
from blixt.serve.http.sse import event
from blixt.serve.wire import Kind, split_reply

ErrorBody = Callable[[int, object], bytes]
_failure = msgspec.json.Decoder(Failure)


class Answer(NamedTuple):
    """A whole answer, without its length."""

    status: int
    body: bytes
    headers: RawHeaders


def whole(kind: int, payload: bytes, error_body: ErrorBody) -> Answer:
    """A final message as an answer."""
    if kind == Kind.OK:
        return Answer(200, payload, [JSON])
    if kind == Kind.ERROR:
        return failed(_failure.decode(payload), error_body)
    if kind == Kind.REPLY:
        status, headers, body = split_reply(payload)
        return Answer(status, body, raw_headers(headers))
    return Answer(200, payload, [BYTES])


def failed(failure: Failure, error_body: ErrorBody) -> Answer:
    """A failure as an answer."""
    body = error_body(failure.status, failure.detail)
    return Answer(failure.status, body, [JSON, *raw_headers(failure.headers)])


def streamed(kind: int, payload: bytes) -> bytes:
    """A stream's message as a server-sent event; END is none."""
    if kind == Kind.CHUNK:
        return event(payload)
    if kind == Kind.ERROR:
        failure = _failure.decode(payload)
        return event(msgspec.json.encode({"status": failure.status, "detail": failure.detail}), "error")
    return b""


def too_large(limit_bytes: int) -> Failure:
    """The body is larger than it may be; the rest of it is not read."""
    return Failure(413, f"The body is larger than {limit_bytes} bytes.", {"connection": "close"})
