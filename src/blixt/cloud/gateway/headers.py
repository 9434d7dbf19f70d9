"""Which headers go on, in each direction. Pure.

Hop-by-hop headers end here, framing is written anew, the caller's credentials for blixt never reach user
code, and user code cannot set blixt's cookies.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from blixt.cloud.gateway.framing import Framing, Until
from blixt.cloud.gateway.heads import Headers, RequestHead, ResponseHead

COOKIE_PREFIX = b"blixt_"

_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer "
    b"transfer-encoding upgrade http2-settings content-length expect".split()
)
_FORWARDED = frozenset(
    b"forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-prefix x-forwarded-port "
    b"x-forwarded-server x-real-ip".split()
)
_DROP = {  # by whether forwarding headers are trusted, and whether the Authorization header stays behind
    (False, False): _HOP | _FORWARDED,
    (False, True): _HOP | _FORWARDED | {b"authorization"},
    (True, False): _HOP,
    (True, True): _HOP | {b"authorization"},
}
_END_TO_END = frozenset((b"host", b"cookie", b"authorization", b"origin"))
_GUEST_RESPONSE_DROP = frozenset((b"alt-svc", b"clear-site-data", b"service-worker-allowed"))
_SAFE_METHODS = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE"))
_IDEMPOTENT_METHODS = _SAFE_METHODS | {b"PUT", b"DELETE"}
_SANDBOX = b"sandbox allow-scripts allow-forms allow-popups allow-modals allow-downloads"
_BEARER = re.compile(rb"bearer +([\x21-\x7e]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Onward:
    """What to change in a request on its way to one kind of upstream.

    Attributes:
        target: the request target the upstream shall see.
        guest: the upstream is a user's code, so blixt's credentials stay behind.
        keep_authorization: leave the Authorization header to a guest (it was not blixt's).
        shared_origin: the response is shown on the console's origin, so a browser must sandbox it.
        prefix: the path prefix that was stripped.
        inject: headers of the route, which replace the client's.
    """

    target: bytes
    guest: bool = False
    keep_authorization: bool = False
    shared_origin: bool = False
    prefix: bytes = b""
    inject: tuple[tuple[bytes, bytes], ...] = ()


def encode_inject(headers: Mapping[str, str]) -> tuple[tuple[bytes, bytes], ...]:
    """Turn a route's headers into wire form, refusing line breaks."""
    pairs: list[tuple[bytes, bytes]] = []
    for name, value in headers.items():
        if any(c in name + value for c in "\r\n\0"):
            raise ValueError(f"The injected header {name!r} holds a line break.")
        pairs.append((name.lower().encode("ascii"), value.encode("latin-1")))
    return tuple(pairs)


def tokens(value: bytes | None) -> frozenset[bytes]:
    """The members of a comma-separated header, lower case."""
    if not value:
        return frozenset()
    return frozenset(part.strip(b" \t").lower() for part in value.split(b","))


def wants_websocket(head: RequestHead) -> bool:
    """Whether the request asks for a WebSocket; any other Upgrade is ignored, as HTTP allows."""
    return (
        head.index.get(b"upgrade", b"").lower() == b"websocket"
        and head.method == b"GET"
        and head.minor == 1
        and b"upgrade" in tokens(head.index.get(b"connection"))
    )


def keeps_alive(head: RequestHead | ResponseHead) -> bool:
    """Whether the sender lets the connection live on; HTTP/1.0 connections are not kept."""
    connection = head.index.get(b"connection")
    return head.minor == 1 and (connection is None or b"close" not in tokens(connection))


def is_safe(method: bytes) -> bool:
    """Whether the method only reads."""
    return method in _SAFE_METHODS


def is_idempotent(method: bytes) -> bool:
    """Whether doing it twice is the same as doing it once."""
    return method in _IDEMPOTENT_METHODS


def bearer(head: RequestHead) -> str | None:
    """The token of `Authorization: Bearer <token>`."""
    found = _BEARER.fullmatch(head.index.get(b"authorization", b""))
    return found[1].decode("ascii") if found else None


def cookie(head: RequestHead, name: bytes) -> str | None:
    """The first cookie called `name`."""
    for part in head.index.get(b"cookie", b"").split(b";"):
        key, _, value = part.strip().partition(b"=")
        if key == name:
            return value.strip(b'"').decode("latin-1")
    return None


def without_own_cookies(value: bytes) -> bytes:
    """Drop blixt's cookies from a Cookie header; b"" when nothing is left.

    >>> without_own_cookies(b"a=1; blixt_session=secret; b=2")
    b'a=1; b=2'
    """
    parts = (part.strip() for part in value.split(b";"))
    return b"; ".join(part for part in parts if part and not part.lower().startswith(COOKIE_PREFIX))


def same_origin(head: RequestHead) -> bool:
    """Whether the request carries no Origin, or the very origin it is sent to."""
    origin = head.index.get(b"origin")
    return origin is None or origin.partition(b"://")[2].lower() == head.index.get(b"host", b"").lower()


def request_bytes(
    head: RequestHead, onward: Onward, framing: Framing, *, peer: str, websocket: bool, trusted: bool
) -> bytes:
    """Write the head of the request to the upstream."""
    index = head.index
    drop = _DROP[trusted, onward.guest and not onward.keep_authorization]
    if b"connection" in index:
        drop |= tokens(index[b"connection"]) - _END_TO_END
    if onward.inject:
        drop |= {name for name, _ in onward.inject}
    lines = [b"%b %b HTTP/1.1" % (head.method, onward.target)]
    for name, value in head.headers:
        if name in drop:
            continue
        if name == b"cookie" and onward.guest:
            value = without_own_cookies(value)
            if not value:
                continue
        lines.append(name + b": " + value)
    lines += [name + b": " + value for name, value in onward.inject]
    if websocket:
        lines.append(b"connection: Upgrade\r\nupgrade: websocket")
    lines += _forwarded(index, onward, peer, trusted)
    if framing is Until.CHUNKED:
        lines.append(b"transfer-encoding: chunked")
    elif framing or b"content-length" in index:
        lines.append(b"content-length: %d" % framing)
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def _forwarded(index: dict[bytes, bytes], onward: Onward, peer: str, trusted: bool) -> list[bytes]:
    lines: list[bytes] = []
    if peer:
        lines.append(b"x-forwarded-for: " + peer.encode("ascii"))
    if not (trusted and b"x-forwarded-host" in index):
        lines.append(b"x-forwarded-host: " + index.get(b"host", b""))
    if not (trusted and b"x-forwarded-proto" in index):
        lines.append(b"x-forwarded-proto: http")
    if onward.prefix:
        lines.append(b"x-forwarded-prefix: " + onward.prefix)
    return lines


def response_bytes(
    head: ResponseHead, onward: Onward, framing: Framing, *, minor: int, close: bool, bodiless: bool
) -> bytes:
    """Write the head of the response to the client.

    Args:
        head: what the upstream answered.
        onward: how the request was sent on.
        framing: how the upstream frames the body.
        minor: the client's HTTP/1 minor version.
        close: end the client's connection after this response.
        bodiless: HEAD, 204 or 304, where a Content-Length describes a body that is not sent.
    """
    lines = [b"HTTP/1.1 %d %b" % (head.status, head.reason)]
    lines += _onward_response_lines(head, onward)
    if head.status == 101:
        lines.append(b"connection: Upgrade\r\nupgrade: websocket\r\n\r\n")
        return b"\r\n".join(lines)
    length = head.index.get(b"content-length")
    if bodiless:
        if head.status != 204 and length is not None and length.isdigit():
            lines.append(b"content-length: " + length)
    elif isinstance(framing, int):
        lines.append(b"content-length: %d" % framing)
    elif minor == 1:
        lines.append(b"transfer-encoding: chunked")
    if close:
        lines.append(b"connection: close")
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def _onward_response_lines(head: ResponseHead, onward: Onward) -> list[bytes]:
    connection = head.index.get(b"connection")
    drop = _HOP | tokens(connection) if connection else _HOP
    lines: Headers = []
    for name, value in head.headers:
        if name in drop:
            continue
        if onward.guest:
            if name in _GUEST_RESPONSE_DROP:
                continue
            if name == b"set-cookie" and value.lower().lstrip(b"= \t").startswith(COOKIE_PREFIX):
                continue
        lines.append((name, value))
    if onward.shared_origin:
        lines.append((b"content-security-policy", _SANDBOX))
    return [name + b": " + value for name, value in lines]
