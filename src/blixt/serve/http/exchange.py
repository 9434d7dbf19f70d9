"""One ASGI request: reading its body within the bound, noticing that the client left, answering."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from blixt.serve.codec import to_json
from blixt.serve.errors import HTTPError
from blixt.serve.http.room import NO_ROOM, Room
from blixt.serve.tracing import Trace

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
RawHeaders = list[tuple[bytes, bytes]]

JSON: tuple[bytes, bytes] = (b"content-type", b"application/json")
BYTES: tuple[bytes, bytes] = (b"content-type", b"application/octet-stream")
SSE: RawHeaders = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_NOT_IN_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


NOTED = frozenset(
    {b"accept", b"accept-encoding", b"content-type", b"x-priority", b"x-request-id", b"x-timeout-s"}
)
"""Headers that lanes look at."""


class ClientGone(Exception):
    """The client closed the connection before its answer."""


class Exchange:
    """A request being answered."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers: RawHeaders = scope["headers"]
        self.noted = {name: value for name, value in self.headers if name in NOTED}
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.client: tuple[str, int] | None = scope.get("client")
        self.query: str = scope.get("query_string", b"").decode("latin-1")
        self.status = 0
        self.trace: Trace | None = None
        self._receive = receive
        self._send = send
        self._watch: asyncio.Task[None] | None = None
        self._watch_timer: asyncio.TimerHandle | None = None

    async def body(self, limit_bytes: int, room: Room) -> bytes:
        """The whole body, which takes room while it arrives.

        Raises:
            HTTPError: 413 if it is larger than the limit, 429 if there is no room for it.
            ClientGone: The client left while it sent.
        """
        for name, value in self.headers:
            if name == b"content-length" and value.isdigit() and int(value) > limit_bytes:
                raise _too_large(limit_bytes)
        chunks: list[bytes] = []
        size = 0
        try:
            while True:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                chunk = message.get("body", b"")
                if size + len(chunk) > limit_bytes:
                    raise _too_large(limit_bytes)
                if not room.take(len(chunk)):
                    raise HTTPError(NO_ROOM.status, NO_ROOM.detail, NO_ROOM.headers)
                size += len(chunk)
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
        finally:
            room.give(size)

    def watch(self, on_gone: Callable[[], None], after_s: float = 0.0) -> None:
        """Call `on_gone` if the client leaves; end with `unwatch`.

        A task a request is what this costs, so a request that is likely to be answered within `after_s` waits
        so long for it; a client that leaves before is noticed then.
        """

        async def wait() -> None:
            while (await self._receive())["type"] != "http.disconnect":
                pass
            on_gone()

        def begin() -> None:
            self._watch = asyncio.create_task(wait())

        self._watch_timer = asyncio.get_running_loop().call_later(after_s, begin)

    def unwatch(self) -> None:
        """Stop looking for the client's leaving."""
        if self._watch_timer is not None:
            self._watch_timer.cancel()
        if self._watch is not None:
            self._watch.cancel()

    async def answer(self, status: int, body: bytes, headers: RawHeaders) -> None:
        """Send a whole answer."""
        self.status = status
        length = (b"content-length", str(len(body)).encode())
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
        await self._send({"type": "http.response.body", "body": body})

    async def start_stream(self, headers: RawHeaders) -> None:
        """Begin an answer of unknown length."""
        self.status = 200
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def piece(self, data: bytes) -> None:
        """Send the next bytes of a stream; waits while the client is slow."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end_stream(self, data: bytes = b"") -> None:
        """Send the last bytes of a stream."""
        await self._send({"type": "http.response.body", "body": data})


def raw_headers(headers: Mapping[str, str]) -> RawHeaders:
    """Headers as ASGI wants them: what may not stand in a header cannot get in."""
    out: RawHeaders = []
    for name, value in headers.items():
        raw = name.lower().encode("ascii", "replace")
        if _NAME.fullmatch(raw):
            out.append((raw, _NOT_IN_VALUE.sub(b"", value.encode("latin-1", "replace")).strip()))
    return out


def fastapi_error(status: int, detail: object) -> bytes:
    """An error's body in FastAPI's shape."""
    return to_json({"detail": detail})


def _too_large(limit_bytes: int) -> HTTPError:
    return HTTPError(413, f"The body is larger than {limit_bytes} bytes.", {"connection": "close"})
