"""The ASGI app: the APIs' lanes, and health, readiness, info, metrics and docs around them."""

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.routing import Route, WebSocketRoute

import blixt
from blixt.serve.api import API
from blixt.serve.errors import ConfigError, ServeError
from blixt.serve.http.auth import KeyRing, Keys
from blixt.serve.http.authorize import Authorizer, add_guarded, socket_check
from blixt.serve.http.docs import add_docs, with_lanes
from blixt.serve.http.exchange import Receive, Scope, Send
from blixt.serve.http.gate import Gate
from blixt.serve.http.lane import Lane
from blixt.serve.http.middleware import Guard, Middleware, stack
from blixt.serve.http.openai import SpecLane
from blixt.serve.http.plain import add_plain_routes, openai_shaped
from blixt.serve.http.room import Room
from blixt.serve.http.routes import lanes_of
from blixt.serve.http.web import Web
from blixt.serve.http.websocket import SocketLane
from blixt.serve.service import Service
from blixt.serve.tracing import Tracing

if TYPE_CHECKING:
    from blixt.serve.http.mcp import McpApp

_REQUESTS = frozenset({"http", "websocket"})


class ServeApp(FastAPI):
    """FastAPI with lanes: their requests skip its machinery unless the user has added middleware.

    Routes, middleware and mounts of the user's own are added as to any FastAPI.

    Args:
        service: What is served.
        keys: API keys, see `KeyRing`.
        web: Everything else.
    """

    def __init__(self, service: Service, keys: Keys = None, web: Web | None = None, **settings: Any) -> None:
        self.web = web = web or Web()
        super().__init__(
            title="blixt serve",
            version=blixt.__version__,
            lifespan=_lifespan,
            docs_url=None,
            redoc_url=None,
            openapi_url="/openapi.json" if web.docs else None,
            root_path=web.root_path,
            redirect_slashes=False,
            **settings,
        )
        self.service = service
        self.tracing: Tracing | None = None
        self.access_log = web.open_access_log()
        self.keys = KeyRing(keys, web.api_keys_file or os.environ.get("BLIXT_SERVE_API_KEYS_FILE"))
        self._authorized = self.keys.authorized if web.authenticate is None else self.keys.holds
        self.authorizers: dict[int, Authorizer] = {
            id(api): authorize
            for api in service.apis
            if (authorize := getattr(api, "authorize", None)) is not None
        }
        self.lanes: dict[str, Lane] = lanes_of(service.apis, self._gate_of, web.own_paths)
        self._guarded = {path: self._authorizers_of(path) for path in self.lanes}
        for path, lane in self.lanes.items():
            self._add_lane(path, lane)
        self.sockets: Mapping[str, SocketLane] = self._sockets()
        for path, socket in self.sockets.items():
            self.router.routes.append(WebSocketRoute(path, endpoint=socket))
        add_plain_routes(self, service, web)
        if web.docs:
            add_docs(self)
        self.mcp = self._make_mcp()
        if any(api.spec is not None and api.spec.shapes_errors for api in service.apis):
            self.add_exception_handler(HTTPException, openai_shaped)
        self.user_middleware = [*stack(web), self._guard()]
        self._own_layers = len(self.user_middleware)
        if web.extend is not None:
            web.extend(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: a lane's request goes straight to it, if nothing stands between."""
        if scope["type"] in _REQUESTS:
            lanes = self.lanes if scope["type"] == "http" else self.sockets
            lane = lanes.get(scope["path"])
            if lane is not None and self.cold_reason(scope["path"]) is None:
                await lane(scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    def cold_reason(self, path: str) -> str | None:
        """Why requests to a path must come through this app's layers; None if a lane alone can answer."""
        if self.web.cold_reason is not None:
            return self.web.cold_reason
        if len(self.user_middleware) > self._own_layers:
            return "user middleware sees its requests"
        if self._guarded.get(path):
            return "authorize() has dependencies that FastAPI resolves"
        return None

    def openapi(self) -> dict[str, Any]:
        """The schema, with the lanes' routes."""
        if self.openapi_schema is None:
            self.openapi_schema = with_lanes(super().openapi(), self)
        return self.openapi_schema

    def _gate_of(self, api: API) -> Gate:
        own = id(api) in self.authorizers
        return Gate(
            partial(self.service.of, api),
            _always if own else self._authorized,
            self.service.limits.max_payload_bytes,
            Room(self.service.limits.max_queue_bytes),
            self.web.compress_over_bytes,
            self.web.keep_alive_s,
            None if own else self.web.authenticate,
            self.web.sse_ids,
            api,
            self._tracing_now if self.web.tracing else None,
            self.access_log,
        )

    def _authorizers_of(self, path: str) -> list[Authorizer]:
        lane = self.lanes[path]
        gates = [target.gate for target in lane.targets] if isinstance(lane, SpecLane) else [lane.gate]
        found = [self.authorizers.get(id(gate.api)) for gate in gates]
        return [authorize for authorize in found if authorize is not None]

    def _add_lane(self, path: str, lane: Lane) -> None:
        if self._guarded[path]:
            add_guarded(self, path, lane, self._guarded[path])
        else:
            self.router.routes.append(Route(path, endpoint=lane, methods=None, include_in_schema=False))

    def _tracing_now(self) -> Tracing | None:
        return self.tracing

    def _make_mcp(self) -> "McpApp | None":
        if not self.web.mcp and not any(api.mcp for api in self.service.apis):
            return None
        from blixt.serve.http.mcp import McpApp

        mcp = McpApp(self)
        for path in ("/mcp", "/mcp/"):
            self.router.routes.append(Route(path, endpoint=mcp, methods=None, include_in_schema=False))
        return mcp

    def _sockets(self) -> dict[str, SocketLane]:
        sockets: dict[str, SocketLane] = {}
        for api in self.service.apis:
            if api.has_session:
                if api.api_path in sockets:
                    raise ConfigError(f"Two APIs claim the websocket {api.api_path}; give each its own path.")
                own = self.authorizers.get(id(api))
                check = None if own is None else socket_check([own])
                sockets[api.api_path] = SocketLane(self._gate_of(api), api.subprotocols, check)
        return sockets

    def _guard(self) -> Middleware:
        gate = Gate(self._nobody, self._authorized, 0, Room(0), authenticate=self.web.authenticate)
        over = self.web.compress_over_bytes
        return Middleware(
            Guard, lanes=self.lanes, gate=gate, open_paths=self.web.open_paths, compress_over_bytes=over
        )

    def _nobody(self) -> Any:
        raise ServeError("The server's own pages have no workers.")


def _always(headers: object) -> bool:
    return True


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    assert isinstance(app, ServeApp)
    app.service.start()
    app.tracing = Tracing() if app.web.tracing else None
    try:
        async with app.mcp.running() if app.mcp is not None else nullcontext():
            yield
    finally:
        await app.service.stop()
        if app.tracing is not None:
            await asyncio.to_thread(app.tracing.close)
        if app.access_log is not None:
            app.access_log.flush()
