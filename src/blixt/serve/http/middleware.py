"""What stands around the routes: the key for the server's own pages, CORS, proxies, the user's middleware."""

from collections.abc import Collection, Mapping
from typing import Any, cast

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from blixt.serve.errors import HTTPError
from blixt.serve.http.auth import MISSING
from blixt.serve.http.exchange import fastapi_error
from blixt.serve.http.gate import Gate
from blixt.serve.http.lane import Lane
from blixt.serve.http.web import CORS, Web
from blixt.serve.http.web import Middleware as Given
from blixt.serve.specs.openai_wire import error_body


class Guard:
    """Innermost: lanes check for themselves; every other path needs the key unless it is open. It is gzipped.

    Args:
        app: The router.
        lanes: The lanes by path.
        gate: Says whether a request may pass.
        open_paths: Paths without a key.
        compress_over_bytes: As `Web.compress_over_bytes`.
    """

    def __init__(
        self,
        app: ASGIApp,
        lanes: Mapping[str, Lane],
        gate: Gate,
        open_paths: Collection[str],
        compress_over_bytes: int,
    ) -> None:
        self._app = app
        self._lanes = lanes
        self._gate = gate
        self._open_paths = open_paths
        over = compress_over_bytes
        self._plain: ASGIApp = GZipMiddleware(app, minimum_size=over + 1, compresslevel=4) if over else app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        path = scope["path"]
        if path in self._lanes:
            replay = scope["blixt.replay"] = Replay(receive)
            return await self._app(scope, replay, send)
        try:
            if path not in self._open_paths and not await self._gate.admits(scope["headers"]):
                raise HTTPError(401, MISSING, {"www-authenticate": "Bearer"})
        except HTTPError as error:
            return await self._refusal(path, error)(scope, receive, send)
        await self._plain(scope, receive, send)

    def _refusal(self, path: str, error: HTTPError) -> Response:
        openai = path.startswith("/v1/") and "/v1/models" in self._lanes
        body = (error_body if openai else fastapi_error)(error.status, error.detail)
        return Response(body, error.status, error.headers, media_type="application/json")


class Replay:
    """A `receive` that is read twice: by a user's `authorize`, which may look at the body, and a lane."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._seen: list[Message] = []
        self._keep = True

    async def __call__(self) -> Message:
        """ASGI: the next message."""
        message = await self._receive()
        if self._keep:
            self._seen.append(message)
        return message

    def again(self) -> Receive:
        """From the first message on; nothing is kept any more."""
        self._keep = False
        seen = self._seen[::-1]

        async def receive() -> Message:
            return seen.pop() if seen else await self._receive()

        return receive


def stack(web: Web) -> list[Middleware]:
    """The middlewares that a server's settings ask for, outermost first."""
    layers: list[Middleware] = []
    if web.trusted_proxies:
        from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

        trusted = list(web.trusted_proxies)
        layers.append(Middleware(cast(Any, ProxyHeadersMiddleware), trusted_hosts=trusted))
    if web.cors is not None:
        layers.append(_cors(web.cors if isinstance(web.cors, CORS) else CORS(origins=web.cors)))
    return [*layers, *map(_layer, web.middlewares)]


def _layer(given: Given) -> Middleware:
    if isinstance(given, tuple):
        return Middleware(cast(Any, given[0]), **given[1])
    return Middleware(cast(Any, given))


def _cors(cors: CORS) -> Middleware:
    return Middleware(
        CORSMiddleware,
        allow_origins=list(cors.origins),
        allow_methods=list(cors.methods),
        allow_headers=list(cors.headers),
        allow_credentials=cors.credentials,
        max_age=cors.max_age_s,
    )
