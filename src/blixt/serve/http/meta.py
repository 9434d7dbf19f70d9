"""What a request's headers say to the hub and the worker: priority, deadline, content type, ids."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from blixt.serve.errors import HTTPError
from blixt.serve.request import MAX_PRIORITY, Meta

META_HEADERS = frozenset({b"content-type", b"x-priority", b"x-timeout-s", b"x-request-id"})
"""Without any of these (and unless hooks want headers) a request has nothing to say but its body."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Submission:
    """Arguments of `Hub.submit` besides body and sink."""

    priority: int = 0
    timeout_s: float | None = None
    meta: bytes | None = None


PLAIN = Submission()


def read_meta(
    headers: Sequence[tuple[bytes, bytes]],
    wants_headers: bool = False,
    path: str = "",
    query: str = "",
    traceparent: str = "",
) -> Submission:
    """Read a request's headers.

    Args:
        headers: Raw, with lower-case names.
        wants_headers: Whether the API's hooks look at headers, path and query.
        path: The request's path.
        query: Its query string.
        traceparent: The server's own span, when tracing is on.

    Raises:
        HTTPError: 400 if `x-priority` or `x-timeout-s` is no number.
    """
    priority, timeout_s = 0, None
    meta = Meta(traceparent=traceparent)
    for name, value in headers:
        if name == b"content-type":
            if not value.startswith(b"application/json"):
                meta.content_type = value.decode("latin-1")
        elif name == b"x-priority":
            priority = max(-MAX_PRIORITY, min(MAX_PRIORITY, int(_number(name, value))))
        elif name == b"x-timeout-s":
            timeout_s = _number(name, value)
            if timeout_s <= 0:
                raise HTTPError(400, "The header x-timeout-s must be above 0.")
        elif name == b"x-request-id":
            meta.request_id = request_id(value)
    if wants_headers:
        meta.headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
        meta.path, meta.query = path, query
    empty = not (wants_headers or traceparent or meta.content_type or meta.request_id)
    return Submission(priority, timeout_s, None if empty else _encode(meta))


def request_id(value: bytes) -> str:
    """A client's request id if it is fit to be repeated, else an empty text."""
    return value.decode() if _REQUEST_ID.fullmatch(value) else ""


def _number(name: bytes, value: bytes) -> float:
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if number != number or abs(number) == float("inf"):
        raise HTTPError(400, f"The header {name.decode()} is not a number.")
    return number
