"""The server's own routes: health, readiness, info, metrics, shutdown."""

from collections.abc import Awaitable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import PlainTextResponse
from starlette.exceptions import HTTPException

import blixt
from blixt.serve.http.auth import same, sent_keys
from blixt.serve.http.web import Web
from blixt.serve.service import Service
from blixt.serve.specs.openai_wire import error_body

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def add_plain_routes(app: FastAPI, service: Service, web: Web) -> None:
    """Add what a server says about itself."""
    unready: dict[int | str, dict[str, Any]] = {503: {"description": "Not now; the text says why."}}

    @app.head(web.health_path, include_in_schema=False)
    @app.get(web.health_path, response_class=PlainTextResponse, responses=unready)
    async def health() -> Response:
        """200 "ok" once every API has answered its set-up; 503 before."""
        healthy = await service.healthy()
        return PlainTextResponse("ok") if healthy else PlainTextResponse("not ready", 503)

    @app.head("/ready", include_in_schema=False)
    @app.get("/ready", response_class=PlainTextResponse, responses=unready)
    async def ready() -> Response:
        """200 "ready" if a new request would be served now; 503 before set-up and while draining."""
        if service.draining:
            return PlainTextResponse("draining", 503)
        if service.ready:
            return PlainTextResponse("ready")
        return PlainTextResponse("\n".join(["not ready", *service.waiting_for()]), 503)

    @app.get(web.info_path)
    async def info() -> dict[str, Any]:
        """What is served, by which processes."""
        return {
            "version": blixt.__version__,
            "model": dict(web.metadata),
            "draining": service.draining,
            "apis": service.describe(),
        }

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Counters, gauges and histograms in Prometheus's text form, over all processes."""
        return Response(service.metrics_text(), media_type=METRICS_TYPE)

    if web.shutdown:
        _add_shutdown(app, service, web)


def _add_shutdown(app: FastAPI, service: Service, web: Web) -> None:
    key = (web.shutdown_key or "").encode()
    refused: dict[int | str, dict[str, Any]] = {401: {"description": "The key is missing or wrong."}}

    @app.post(web.shutdown_path, response_class=PlainTextResponse, responses=refused)
    async def shutdown(request: Request) -> Response:
        """Finish what was admitted and stop, as SIGTERM does. Needs the shutdown key as bearer token."""
        if not any(same(sent, key) for sent in sent_keys(request.headers.raw)):
            raise HTTPException(401, "The shutdown key is missing or wrong.", {"www-authenticate": "Bearer"})
        service.ask_stop()
        return PlainTextResponse("stopping")


async def openai_shaped(request: Request, error: Exception) -> Response:
    """Errors of the app under /v1 in OpenAI's shape; their headers stay."""
    assert isinstance(error, HTTPException)
    if request.url.path.startswith("/v1/"):
        body = error_body(error.status_code, error.detail)
        return Response(body, error.status_code, error.headers, media_type="application/json")
    handled: Awaitable[Response] = http_exception_handler(request, error)
    return await handled
