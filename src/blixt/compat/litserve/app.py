"""What LitServe's servers answer besides the APIs: the front page, `/info`, and streams without events."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from blixt.serve.client.events import EventReader

from .pieces import unwrap

if TYPE_CHECKING:
    from .server import LitServer

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
INNER_INFO = "/_blixt/info"
CRASHED = b"x-blixt-began"


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
    """ASGI middleware: streams as plain text piece by piece, and 500 for a request whose worker died.

    Args:
        app: The app behind it.
        streams: Paths whose answers are streams.
    """

    def __init__(self, app: Any, streams: frozenset[str]) -> None:
        self._app = app
        self._streams = streams

    async def __call__(self, scope: Message, receive: Any, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        shaped = _Plain(send) if scope["path"] in self._streams else _Died(send)
        await self._app(scope, receive, shaped)


class _Died:
    """Turns the 503 of a request that died with its worker into LitServe's 500."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def __call__(self, message: Message) -> None:
        if message.get("status") == 503 and any(name == CRASHED for name, _ in message["headers"]):
            message = {**message, "status": 500}
        await self._send(message)


class _Plain:
    """Unwraps server-sent events; an error event ends the stream."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._events: EventReader | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers: list[tuple[bytes, bytes]] = list(message["headers"])
            if any(
                value.startswith(b"text/event-stream") for name, value in headers if name == b"content-type"
            ):
                self._events = EventReader()
                headers = [pair for pair in headers if pair[0] != b"content-type"]
                headers.append((b"content-type", b"text/plain; charset=utf-8"))
            message = {**message, "headers": headers}
        elif message["type"] == "http.response.body" and self._events is not None:
            events = self._events.feed(message.get("body", b""))
            data = b"".join(unwrap(event.data) for event in events if event.name != "error")
            message = {**message, "body": data}
        await self._send(message)
