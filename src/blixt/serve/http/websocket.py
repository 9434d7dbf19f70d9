"""A websocket session in front of the hub: messages both ways, each held while the other end is behind."""

import asyncio
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from blixt.serve.codec import to_json
from blixt.serve.errors import Failure, HTTPError
from blixt.serve.http.auth import MISSING
from blixt.serve.http.exchange import JSON, Receive, Scope, Send, fastapi_error, raw_headers
from blixt.serve.http.gate import Gate
from blixt.serve.http.sinks import HIGH_WATER, AnyHub
from blixt.serve.request import Rejected
from blixt.serve.service import Running
from blixt.serve.wire import FINAL, Kind

_failure = msgspec.json.Decoder(Failure)
_code = struct.Struct(">H")
NORMAL, GOING_AWAY, TOO_LARGE, SERVER_ERROR, TRY_LATER = 1000, 1001, 1009, 1011, 1013
LEAVING_S = 5.0
MAX_REASON_BYTES = 123
Check = Callable[[Scope], Any]


class SocketSink:
    """What a session has sent and its client has not taken; tells the worker to wait when that is much."""

    def __init__(self, hub: AnyHub) -> None:
        self.request: Any = None
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.ended = asyncio.Event()
        self._hub = hub
        self._items: deque[tuple[int, bytes]] = deque()
        self._wakeup = asyncio.Event()
        self._held = False

    def deliver(self, kind: int, payload: bytes) -> None:
        """Hub: the session's next message; or whether it has room for the client's."""
        if kind == Kind.PAUSE:
            self.may_read.clear()
        elif kind == Kind.RESUME:
            self.may_read.set()
        else:
            self._items.append((kind, payload))
            self._wakeup.set()
            if kind in FINAL:
                self.ended.set()
                self.may_read.set()
            if len(self._items) >= HIGH_WATER and not self._held and self.request is not None:
                self._held = True
                self._hub.pause(self.request)

    async def next(self) -> tuple[int, bytes]:
        """The next message of the session."""
        while not self._items:
            self._wakeup.clear()
            await self._wakeup.wait()
        item = self._items.popleft()
        if self._held and not self._items and self.request is not None:
            self._held = False
            self._hub.resume(self.request)
        return item


class SocketLane:
    """The websocket route of an API with a `session`.

    Args:
        gate: The API's.
        subprotocols: Those the session speaks, best first.
        check: Runs the API's `authorize`, if it has one: the refusal to send, or None.
    """

    def __init__(self, gate: Gate, subprotocols: Sequence[str] = (), check: Check | None = None) -> None:
        self.gate = gate
        self._subprotocols = list(subprotocols)
        self._check = check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: one connection."""
        if (await receive())["type"] != "websocket.connect":
            return
        running = self.gate.find()
        hub: AnyHub = running.pool.hub
        began = time.monotonic()
        refusal = None if self._check is None else await self._check(scope)
        if refusal is not None:
            return await _refuse(scope, send, *refusal)
        sink = SocketSink(hub)
        try:
            if not await self.gate.admits(scope["headers"]):
                raise HTTPError(401, MISSING, {"www-authenticate": "Bearer"})
            request = sink.request = hub.submit(_opening(scope), sink, kind=Kind.OPEN)
        except HTTPError as error:
            return await _refuse(scope, send, error.status, *_body(error.status, error.detail, error.headers))
        except Rejected as rejected:
            failure = rejected.failure
            return await _refuse(scope, send, failure.status, *_body(*msgspec.structs.astuple(failure)))
        offered = scope.get("subprotocols", ())
        spoken = next((name for name in self._subprotocols if name in offered), None)
        try:
            await send({"type": "websocket.accept", "subprotocol": spoken})
            await self._converse(running, request, sink, receive, send)
        finally:
            hub.cancel(request)
            took_s = time.monotonic() - began
            running.metrics.answered(101, took_s)
            if self.gate.access_log is not None:
                self.gate.access_log.record("WEBSOCKET", scope["path"], 101, took_s, scope.get("client"))

    async def _converse(
        self, running: Running, request: Any, sink: SocketSink, receive: Receive, send: Send
    ) -> None:
        hub: AnyHub = running.pool.hub
        reading = asyncio.create_task(self._read(hub, request, sink, receive))
        writing = asyncio.create_task(_write(hub, sink, send))
        try:
            await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_COMPLETED)
            if writing.done() or not reading.done():
                return writing.result()
            code, reason = reading.result()
            hub.send(request, Kind.CLOSE, _code.pack(code) + reason.encode())
            if code == TOO_LARGE:
                await send({"type": "websocket.close", "code": code, "reason": reason})
            async with asyncio.timeout(LEAVING_S):  # the session may say goodbye to whatever it holds
                await sink.ended.wait()
        except TimeoutError:
            return
        finally:
            reading.cancel()
            writing.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)

    async def _read(self, hub: AnyHub, request: Any, sink: SocketSink, receive: Receive) -> tuple[int, str]:
        """Pass the client's messages on until it leaves; returns why it did."""
        limit_bytes = self.gate.max_payload_bytes
        while True:
            await sink.may_read.wait()
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return message.get("code") or 1005, message.get("reason") or ""
            text = message.get("text")
            data = b"b" + message["bytes"] if text is None else b"t" + text.encode()
            if len(data) > limit_bytes:
                return TOO_LARGE, f"The message is larger than {limit_bytes} bytes."
            hub.send(request, Kind.DATA, data)


async def _write(hub: AnyHub, sink: SocketSink, send: Send) -> None:
    """Send what the session says until it ends."""
    while True:
        kind, payload = await sink.next()
        if kind == Kind.DATA:
            await send(_frame(payload))
        elif kind in (Kind.CHUNK, Kind.OK):
            await send({"type": "websocket.send", "text": payload.decode()})
        elif kind == Kind.RAW:
            await send({"type": "websocket.send", "bytes": payload})
        if kind in FINAL:
            code, reason = close_of(kind, payload, hub.draining)
            await send({"type": "websocket.close", "code": code, "reason": reason})
            return


def close_of(kind: int, payload: bytes, draining: bool) -> tuple[int, str]:
    """Close code and reason for a session's last message.

    An error raised as `HTTPError(status)` closes with 4000 + status, any other with 1011.
    """
    if kind == Kind.CLOSE:
        return _code.unpack_from(payload)[0], payload[_code.size :].decode("utf-8", "replace")
    if kind != Kind.ERROR:
        return NORMAL, ""
    failure = _failure.decode(payload)
    known = {500: SERVER_ERROR, 503: GOING_AWAY if draining else TRY_LATER}
    detail = failure.detail if isinstance(failure.detail, str) else to_json(failure.detail).decode()
    reason = detail.encode()[:MAX_REASON_BYTES].decode("utf-8", "ignore")
    return known.get(failure.status, 4000 + failure.status), reason


def _frame(data: bytes) -> dict[str, Any]:
    if data[:1] == b"t":
        return {"type": "websocket.send", "text": data[1:].decode("utf-8", "replace")}
    return {"type": "websocket.send", "bytes": data[1:]}


def _opening(scope: Scope) -> bytes:
    return to_json(
        {
            "path": scope["path"],
            "query": scope.get("query_string", b"").decode("latin-1"),
            "headers": [
                [name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]
            ],
            "subprotocols": list(scope.get("subprotocols", ())),
        }
    )


def _body(status: int, detail: Any, headers: dict[str, str]) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    return fastapi_error(status, detail), [JSON, *raw_headers(headers)]


async def _refuse(
    scope: Scope, send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    """Answer the handshake with an HTTP error; servers that cannot do that close it, which is a 403."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        return await send({"type": "websocket.close", "code": 4000 + status})
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "websocket.http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "websocket.http.response.body", "body": body})
