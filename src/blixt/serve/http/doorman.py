"""The app of a server that has nothing but lanes and probes to show: no web framework until it is needed.

FastAPI costs a front 0.3 seconds and 14 MB before the first request, and most services never need it: their
requests go to lanes, and an orchestrator asks for health, readiness and metrics. Whatever else is asked for
(docs, an unknown path, another method) is answered by the whole app, which then is made, in a thread, once.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import blixt
from blixt.serve.api import API
from blixt.serve.codec import to_json
from blixt.serve.http.auth import KeyRing, Keys
from blixt.serve.http.compress import compressed
from blixt.serve.http.exchange import RawHeaders, Receive, Scope, Send
from blixt.serve.http.gate import Gate
from blixt.serve.http.lane import Lane
from blixt.serve.http.room import Room
from blixt.serve.http.routes import lanes_of
from blixt.serve.http.web import Web
from blixt.serve.service import Service

if TYPE_CHECKING:
    from blixt.serve.http.app import ServeApp

TEXT = b"text/plain; charset=utf-8"
PROMETHEUS = b"text/plain; version=0.0.4; charset=utf-8"
JSON = b"application/json"
Page = tuple[int, bytes, bytes]  # status, content type, body


class Doorman:
    """Lanes, `/health`, `/ready`, `/metrics` and `/info`; `ServeApp` for everything else.

    Args:
        service: What is served.
        keys: API keys, see `KeyRing`.
        web: Settings for which `suffices` holds.
        make_whole: Makes the whole app.
    """

    def __init__(
        self, service: Service, keys: Keys, web: Web | None, make_whole: "Callable[[], ServeApp]"
    ) -> None:
        self.service = service
        self.web = web = web or Web()
        self._access_log = web.open_access_log()
        self.keys = KeyRing(keys, web.api_keys_file or os.environ.get("BLIXT_SERVE_API_KEYS_FILE"))
        self._authorized = self.keys.authorized if web.authenticate is None else self.keys.holds
        self.lanes: Mapping[str, Lane] = lanes_of(service.apis, self._gate_of, web.own_paths)
        self.sockets: Mapping[str, Any] = {}
        self._pages = {
            web.health_path: self._health,
            "/ready": self._ready,
            "/metrics": self._metrics,
            web.info_path: self._info,
        }
        self._make_whole = make_whole
        self._whole: ServeApp | None = None
        self._making = asyncio.Lock()

    def cold_reason(self, path: str) -> str | None:
        """Nothing stands between a client and a lane here."""
        return None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: one request, or the lifespan, in which the server starts and stops the workers itself."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            if self._access_log is not None:
                self._access_log.flush()
            return
        path = scope["path"]
        if scope["type"] == "http":
            lane = self.lanes.get(path)
            if lane is not None:
                return await lane(scope, receive, send)
            page = self._pages.get(path)
            if page is not None and scope["method"] == "GET" and self._may_see(path, scope["headers"]):
                return await self._show(await page(), scope["headers"], send)
        await (await self._whole_app())(scope, receive, send)

    async def _whole_app(self) -> "ServeApp":
        async with self._making:
            if self._whole is None:
                self._whole = await asyncio.to_thread(self._make_whole)
        return self._whole

    def _may_see(self, path: str, headers: RawHeaders) -> bool:
        return path in self.web.open_paths or self._authorized(headers)

    async def _show(self, page: Page, asked: RawHeaders, send: Send) -> None:
        status, content_type, body = page
        accepted = next((value for name, value in asked if name == b"accept-encoding"), None)
        headers = [(b"content-type", content_type)]
        if status == 200:
            body, headers = compressed(body, headers, accepted, self.web.compress_over_bytes)
        headers = [(b"content-length", b"%d" % len(body)), *headers]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _health(self) -> Page:
        return (200, TEXT, b"ok") if await self.service.healthy() else (503, TEXT, b"not ready")

    async def _ready(self) -> Page:
        if self.service.draining:
            return 503, TEXT, b"draining"
        if self.service.ready:
            return 200, TEXT, b"ready"
        return 503, TEXT, "\n".join(["not ready", *self.service.waiting_for()]).encode()

    async def _metrics(self) -> Page:
        return 200, PROMETHEUS, self.service.metrics_text().encode()

    async def _info(self) -> Page:
        return 200, JSON, to_json(info_of(self.service, self.web))

    def _gate_of(self, api: API) -> Gate:
        return Gate(
            partial(self.service.of, api),
            self._authorized,
            self.service.limits.max_payload_bytes,
            Room(self.service.limits.max_queue_bytes),
            self.web.compress_over_bytes,
            self.web.keep_alive_s,
            self.web.authenticate,
            self.web.sse_ids,
            api,
            access_log=self._access_log,
        )


def info_of(service: Service, web: Web) -> dict[str, Any]:
    """What a server says of itself."""
    return {
        "version": blixt.__version__,
        "model": dict(web.metadata),
        "draining": service.draining,
        "apis": service.describe(),
    }


def suffices(apis: list[API], web: Web | None) -> bool:
    """Whether no layer and no route of the whole app is asked for by the settings."""
    web = web or Web()
    layers = web.cold_reason is not None or web.trusted_proxies or web.root_path or web.extend is not None
    routes = web.mcp or any(api.mcp or api.has_session for api in apis)
    return not (layers or routes or any(getattr(api, "authorize", None) is not None for api in apis))


async def _live(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
