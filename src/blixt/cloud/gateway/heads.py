"""Request and response heads: bytes in, one strict reading out. Pure.

Strictness is the defence against request smuggling: whatever two parsers could read differently (obs-fold,
space before a colon, bare CR or LF, control bytes) is refused here, before anything looks at a header.
"""

from dataclasses import dataclass

from blixt.cloud.gateway.errors import (
    BadRequest,
    BadUpstream,
    HeadTooLarge,
    TargetTooLong,
    UnsupportedVersion,
)
from blixt.cloud.gateway.limits import Limits

Headers = list[tuple[bytes, bytes]]

_TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_TEXT = bytes(c for c in range(256) if c in (0x09, 0x0A, 0x0D) or (c >= 0x20 and c != 0x7F))
_VISIBLE = bytes(range(0x21, 0x7F))


@dataclass(slots=True)
class RequestHead:
    """A request's first line and headers; names are lower case, repeats also joined in `index`."""

    method: bytes
    target: bytes
    minor: int
    headers: Headers
    index: dict[bytes, bytes]


@dataclass(slots=True)
class ResponseHead:
    """A response's status line and headers; names are lower case, repeats also joined in `index`."""

    status: int
    reason: bytes
    minor: int
    headers: Headers
    index: dict[bytes, bytes]


def parse_request(head: bytes, limits: Limits) -> RequestHead:
    r"""Parse the bytes before the blank line of a request.

    Raises:
        BadRequest: with the status that fits (400, 414, 431, 505).

    >>> parse_request(b"GET /a HTTP/1.1\r\nHost: x", Limits()).target
    b'/a'
    """
    _check_text(head, BadRequest)
    lines = head.split(b"\r\n")
    parts = lines[0].split(b" ")
    if len(parts) != 3:
        raise BadRequest("The request line is not `METHOD target HTTP/1.1` with single spaces.")
    method, target, version = parts
    if not method or len(method) > 32 or method.translate(None, _TOKEN):
        raise BadRequest("The request's method is not a token.")
    if len(target) > limits.target_bytes:
        raise TargetTooLong(
            f"The request target has {len(target)} bytes; the limit is {limits.target_bytes}."
        )
    if not target or target.translate(None, _VISIBLE):
        raise BadRequest("The request target holds bytes that must be percent-encoded.")
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise UnsupportedVersion("This server speaks HTTP/1.1.")
    if len(lines) - 1 > limits.header_count:
        raise HeadTooLarge(f"The request has {len(lines) - 1} headers; the limit is {limits.header_count}.")
    headers, index = _parse_fields(lines, BadRequest)
    return RequestHead(method, target, version[-1] - 48, headers, index)


def parse_response(head: bytes) -> ResponseHead:
    r"""Parse the bytes before the blank line of a response.

    Raises:
        BadUpstream: when it can be read in more than one way, or not at all.

    >>> parse_response(b"HTTP/1.1 204 No Content\r\nServer: x").status
    204
    """
    _check_text(head, BadUpstream)
    lines = head.split(b"\r\n")
    version, _, rest = lines[0].partition(b" ")
    status, _, reason = rest.partition(b" ")
    if version not in (b"HTTP/1.1", b"HTTP/1.0") or len(status) != 3 or not status.isdigit():
        raise BadUpstream("The workload's answer does not begin with an HTTP/1.1 status line.")
    headers, index = _parse_fields(lines, BadUpstream)
    return ResponseHead(int(status), reason, version[-1] - 48, headers, index)


def _check_text(head: bytes, error: type[BadRequest] | type[BadUpstream]) -> None:
    pairs = head.count(b"\r\n")
    if head.translate(None, _TEXT) or head.count(b"\n") != pairs or head.count(b"\r") != pairs:
        raise error("The header block holds a control byte, or a CR or LF on its own.")


def _parse_fields(
    lines: list[bytes], error: type[BadRequest] | type[BadUpstream]
) -> tuple[Headers, dict[bytes, bytes]]:
    headers: Headers = []
    index: dict[bytes, bytes] = {}
    for position in range(1, len(lines)):
        name, colon, value = lines[position].partition(b":")
        if not colon or not name or name.translate(None, _TOKEN):
            raise error(f"Header line {position} is not `name: value`; folded lines are refused.")
        name = name.lower()
        value = value.strip(b" \t")
        headers.append((name, value))
        if name in index:
            index[name] += (b"; " if name == b"cookie" else b", ") + value
        else:
            index[name] = value
    return headers, index
