"""The ASGI app: the APIs' lanes, and health, readiness, info, metrics and docs around them."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import PlainTextResponse
from starlette.exceptions import HTTPException
from starlette.routing import Route

import blixt
from blixt.serve.api import API
from blixt.serve.http.auth import OPEN_PATHS, key_check
from blixt.serve.http.exchange import Receive, Scope, Send, fastapi_error
from blixt.serve.http.lane import AnswerLane, Gate, Lane, StreamLane
from blixt.serve.http.openai import CompletionLane, ModelsLane
from blixt.serve.service import Service
from blixt.serve.specs.openai import OpenAISpec
from blixt.serve.specs.openai_types import ChatRequest, CompletionRequest
from blixt.serve.specs.openai_wire import error_body


class ServeApp(FastAPI):
    """FastAPI with lanes: their requests skip its machinery unless the user has added middleware."""

    def __init__(self, service: Service, api_key: str | None, **settings: Any) -> None:
        super().__init__(
            title="blixt serve", version=blixt.__version__, lifespan=_lifespan(service), **settings
        )
        self.lanes: dict[str, Lane] = {}
        self._authorized = key_check(api_key)
        for api in service.apis:
            gate = Gate(partial(service.of, api), self._authorized, service.limits.max_payload_bytes)
            for path, lane in lanes_of(api, gate).items():
                self.lanes[path] = lane
                self.router.routes.append(Route(path, endpoint=lane, methods=None, include_in_schema=False))
        _add_plain_routes(self, service)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: a lane's request goes straight to it; others need the key unless their path is open."""
        if scope["type"] == "http":
            lane = self.lanes.get(scope["path"])
            if lane is not None and not self.user_middleware:
                await lane(scope, receive, send)
                return
            if lane is None and scope["path"] not in OPEN_PATHS and not self._authorized(scope["headers"]):
                await self._unauthorized(scope["path"])(scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    def _unauthorized(self, path: str) -> Response:
        shape = error_body if self._is_openai(path) else fastapi_error
        body = shape(401, "The API key is missing or wrong.")
        headers = {"www-authenticate": "Bearer"}
        return Response(body, 401, headers, media_type="application/json")

    def _is_openai(self, path: str) -> bool:
        return path.startswith("/v1/") and "/v1/models" in self.lanes

    def openapi(self) -> dict[str, Any]:
        """The schema, with the lanes' routes."""
        if self.openapi_schema is None:
            schema = super().openapi()
            for path, lane in self.lanes.items():
                if "{" not in path:
                    schema.setdefault("paths", {})[path] = {lane.method.lower(): lane.openapi()}
        return self.openapi_schema or {}


def lanes_of(api: API, gate: Gate) -> dict[str, Lane]:
    """The routes of one API."""
    spec = api.spec
    if isinstance(spec, OpenAISpec):
        models = ModelsLane(gate, spec)
        return {
            "/v1/chat/completions": CompletionLane(gate, spec, ChatRequest),
            "/v1/completions": CompletionLane(gate, spec, CompletionRequest),
            "/v1/models": models,
            "/v1/models/{name:path}": models,
        }
    lane: Lane = StreamLane(gate) if api.stream else AnswerLane(gate)
    lane.summary = type(api).__doc__ or type(api).__name__
    return {api.api_path: lane}


def _lifespan(service: Service) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        service.start()
        try:
            yield
        finally:
            await service.stop()

    return lifespan


def _add_plain_routes(app: FastAPI, service: Service) -> None:
    @app.get("/health", response_class=PlainTextResponse)
    async def health() -> Response:
        """200 "ok" once every API has answered its set-up; 503 before."""
        healthy = await asyncio.to_thread(lambda: service.healthy)
        return PlainTextResponse("ok") if healthy else PlainTextResponse("not ready", 503)

    @app.get("/ready", response_class=PlainTextResponse)
    async def ready() -> Response:
        """200 "ready" if a new request would be served now; 503 before set-up and while draining."""
        if service.draining:
            return PlainTextResponse("draining", 503)
        return PlainTextResponse("ready") if service.ready else PlainTextResponse("not ready", 503)

    @app.get("/info")
    async def info() -> dict[str, Any]:
        """What is served, by which processes."""
        return {"version": blixt.__version__, "draining": service.draining, "apis": service.describe()}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Prometheus text."""
        return Response(service.metrics_text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    if any(api.spec is not None for api in service.apis):
        app.add_exception_handler(HTTPException, _openai_shaped)


async def _openai_shaped(request: Request, error: Exception) -> Response:
    """Unknown routes under /v1 answer as OpenAI's do."""
    assert isinstance(error, HTTPException)
    if request.url.path.startswith("/v1/"):
        return Response(
            error_body(error.status_code, error.detail), error.status_code, media_type="application/json"
        )
    handled: Awaitable[Response] = http_exception_handler(request, error)
    return await handled
