"""An API's own `authorize(...)`, whose parameters FastAPI resolves, for requests and for websockets."""

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import Depends, FastAPI, Response
from starlette.types import Message

from blixt.serve.http.exchange import Receive, Scope, Send
from blixt.serve.http.lane import Lane

Authorizer = Callable[..., Any]
Refusal = tuple[int, bytes, list[tuple[bytes, bytes]]]


def add_guarded(app: FastAPI, path: str, lane: Lane, authorizers: Sequence[Authorizer]) -> None:
    """A lane's route behind FastAPI's dependencies."""

    async def endpoint() -> Response:
        return _LaneResponse(lane)

    dependencies = [Depends(authorize) for authorize in authorizers]
    app.add_api_route(path, endpoint, methods=[lane.method], dependencies=dependencies)


def socket_check(authorizers: Sequence[Authorizer]) -> Callable[[Scope], Any]:
    """A function that says what a websocket's handshake is refused with, or None.

    FastAPI's security classes want an HTTP request, so the handshake, which is one, is shown to a small app.
    """
    app = FastAPI(openapi_url=None)

    @app.get("/{path:path}", dependencies=[Depends(authorize) for authorize in authorizers])
    async def admitted() -> Response:
        return Response(status_code=204)

    async def check(scope: Scope) -> Refusal | None:
        told: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b""}

        async def send(message: Message) -> None:
            told.append(message)

        asked: dict[str, Any] = {**scope, "type": "http", "method": "GET", "extensions": {}}
        await app(asked, receive, send)
        if told[0]["status"] == 204:
            return None
        body = b"".join(message.get("body", b"") for message in told[1:])
        headers = [(name, value) for name, value in told[0]["headers"] if name != b"content-length"]
        return told[0]["status"], body, headers

    return check


class _LaneResponse(Response):
    """Hands a request that FastAPI has let through to its lane."""

    def __init__(self, lane: Lane) -> None:
        super().__init__()
        self._lane = lane

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        replay = scope.get("blixt.replay")  # a path with parameters is no lane of its own, and has no body
        await self._lane(scope, receive if replay is None else replay.again(), send)
