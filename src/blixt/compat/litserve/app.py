"""What LitServe's servers answer besides the APIs: the front page, `/info`, and streams without events."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from blixt.serve.client.events import EventReader

from .health import ToldHealth
from .pieces import unwrap

if TYPE_CHECKING:
    from .server import LitServer

LATE = "Request timed out"
_LATE = json.dumps({"detail": LATE}).encode()
_LATE_HEADERS = ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(_LATE)))
Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
INNER_INFO = "/_blixt/info"
CRASHED = b"x-blixt-began"
RAISED = "x-litserve-raised"
"""Header of an answer that LitServe does not send: it raises a ValueError in the app, with this JSON text."""


def add_routes(app: FastAPI, described: dict[str, Any], info_path: str) -> None:
    """The front page and the description of the server."""

    @app.get("/", response_class=PlainTextResponse)
    async def index() -> str:
        """Says that the server runs."""
        return "litserve running"

    @app.get(info_path)
    async def info() -> dict[str, Any]:
        """What is served, and how."""
        return described


def describe(server: "LitServer") -> dict[str, Any]:
    """What `/info` tells."""
    return {
        "model": server.model_metadata,
        "server": {
            "devices": server.device_names,
            "workers_per_device": server.workers_per_device,
            "timeout": server.timeout,
            "stream": {api.api_path: api.stream for api in server.litapi_connector},
            "max_payload_size": server.max_payload_size,
            "track_requests": server.track_requests,
        },
    }


class LitAnswers:
    """ASGI middleware: LitServe's answers where a worker died, and streams as plain text piece by piece.

    A worker that dies gives 500; in a stream, whose 200 LitServe sends before it begins, nothing more comes.

    Args:
        app: The app behind it.
        streams: Paths whose answers are streams.
        health: Answers for the workers if it was told of them.
        empty: `(method, path)` of requests that are answered with nothing, as OpenAI's routes answer OPTIONS.
    """

    def __init__(
        self,
        app: Any,
        streams: frozenset[str],
        health: ToldHealth | None = None,
        empty: frozenset[tuple[str, str]] = frozenset(),
    ) -> None:
        self._app = app
        self._streams = streams
        self._health = health
        self._empty = empty

    async def __call__(self, scope: Message, receive: Any, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        health = self._health
        if health is not None and health.told is not None and scope["path"] == health.path:
            await health.answer(send)
            return
        if (scope["method"], scope["path"]) in self._empty:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
            return
        if scope["path"] in self._streams:
            await self._app(scope, receive, _Plain(send))
            return
        shaped = _Whole(send)
        await self._app(scope, receive, shaped)
        if shaped.raised is not None:
            raise ValueError(shaped.raised)


class _Whole:
    """Turns the 503 of a request that died with its worker into a 500, words a 504 as LitServe does, and
    keeps back what is raised.

    Attributes:
        raised: What LitServe raises instead of answering.
    """

    def __init__(self, send: Send) -> None:
        self.raised: str | None = None
        self._send = send
        self._is_late = False

    async def __call__(self, message: Message) -> None:
        headers: dict[bytes, bytes] = dict(message.get("headers", ()))
        if RAISED.encode() in headers:
            self.raised = json.loads(headers[RAISED.encode()])
        if self.raised is not None:
            return
        if message.get("status") == 503 and CRASHED in headers:
            message = {**message, "status": 500}
        elif message.get("status") == 504:
            self._is_late = True
            message = {**message, "headers": [*_LATE_HEADERS]}
        elif self._is_late:
            message = {**message, "body": _LATE}
        await self._send(message)


class _Plain:
    """Unwraps server-sent events; an error event ends the stream, and so does the death of its worker."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._events: EventReader | None = None
        self._died = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers: list[tuple[bytes, bytes]] = list(message["headers"])
            self._died = message["status"] == 503 and any(name == CRASHED for name, _ in headers)
            if self._died:
                message = {**message, "status": 200}
                headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"0")]
            elif any(
                value.startswith(b"text/event-stream") for name, value in headers if name == b"content-type"
            ):
                self._events = EventReader()
                headers = [pair for pair in headers if pair[0] != b"content-type"]
                headers.append((b"content-type", b"text/plain; charset=utf-8"))
            message = {**message, "headers": headers}
        elif message["type"] == "http.response.body" and self._died:
            message = {**message, "body": b""}
        elif message["type"] == "http.response.body" and self._events is not None:
            for event in self._events.feed(message.get("body", b"")):
                if event.name != "error":  # a chunk for each piece: clients may read them one by one
                    await self._send({**message, "body": unwrap(event.data), "more_body": True})
            message = {**message, "body": b""}
            if message.get("more_body", False):
                return
        await self._send(message)
