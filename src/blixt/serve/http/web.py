"""What the HTTP side of a server offers besides its APIs. Settings only: no web framework is imported."""

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from blixt.serve.errors import ConfigError
from blixt.serve.http.access_log import STDERR, AccessLog
from blixt.serve.http.auth import Authenticate

Middleware = type | tuple[type, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class CORS:
    """Which other origins' pages may call the server. It makes every route cold.

    Args:
        origins: Origins such as "https://app.example.com"; "*" is any.
        methods: Allowed methods.
        headers: Request headers that pages may set; "*" is any.
        credentials: Whether cookies may come along.
        max_age_s: How long a browser may remember the answer.
    """

    origins: Sequence[str] = ("*",)
    methods: Sequence[str] = ("GET", "POST")
    headers: Sequence[str] = ("*",)
    credentials: bool = False
    max_age_s: int = 600


@dataclass(frozen=True, kw_only=True)
class Web:
    """Settings of the HTTP side; everything has a default.

    Args:
        api_keys_file: A file of API keys, see `KeyRing`; read again when it changes. Default: the
            environment's `BLIXT_SERVE_API_KEYS_FILE`.
        authenticate: A callable that says whether a bearer token is good, `def` or `async def`; besides keys.
        cors: Other origins that may call, as `CORS` or a list of origins.
        middlewares: ASGI middleware classes, or `(class, keyword arguments)`. They make every route cold.
        compress_over_bytes: Whole answers above this size are gzipped for clients that accept it; 0: never.
        keep_alive_s: A stream that is silent so long gets an SSE comment, so that no proxy gives it up.
        sse_ids: Number the events of each stream (`id: 1`, ...). Makes streams cold.
        docs: Serve `/docs` and `/openapi.json`.
        mcp: Serve every API as a tool of an MCP server at `/mcp/`.
        shutdown: Allow `POST shutdown_path` with `shutdown_key` as bearer token to stop the server.
        shutdown_key: Its key. Default: the environment's `BLIXT_SERVE_SHUTDOWN_KEY`, else one is made and
            printed at the start.
        root_path: The prefix under which a proxy shows this server, such as "/d/team/name".
        trusted_proxies: Addresses whose `X-Forwarded-*` headers are believed; "*" is any.
        extend: Called with the app (a FastAPI) when it is made, in every front process: adds routes, mounts
            or middleware of one's own.
        access_log: A JSON line for every answer of an API (time, client, method, path, status, milliseconds,
            request id): True or "-" writes to standard error, a path appends to that file. No probes.
        tracing: Export OpenTelemetry spans, as the `OTEL_*` environment variables say. Makes routes cold.
        metadata: Shown in `/info` as "model".
        health_path: Where liveness is told.
        info_path: Where the server describes itself.
        shutdown_path: Where it is asked to stop.

    Raises:
        ConfigError: A value cannot be.
    """

    api_keys_file: str | None = None
    authenticate: Authenticate | None = None
    cors: CORS | Sequence[str] | None = None
    middlewares: Sequence[Middleware] = ()
    compress_over_bytes: int = 1000
    keep_alive_s: float = 15.0
    sse_ids: bool = False
    docs: bool = True
    mcp: bool = False
    shutdown: bool = False
    shutdown_key: str | None = None
    root_path: str = ""
    trusted_proxies: Sequence[str] = ()
    extend: Callable[[Any], None] | None = None
    access_log: bool | str = False
    tracing: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    health_path: str = "/health"
    info_path: str = "/info"
    shutdown_path: str = "/shutdown"

    def __post_init__(self) -> None:
        if self.shutdown and self.shutdown_key is None:
            key = os.environ.get("BLIXT_SERVE_SHUTDOWN_KEY") or secrets.token_urlsafe(24)
            object.__setattr__(self, "shutdown_key", key)
        for name in ("health_path", "info_path", "shutdown_path"):
            if not getattr(self, name).startswith("/"):
                raise ConfigError(f"{name}={getattr(self, name)!r} does not begin with '/'.")
        if self.root_path and (not self.root_path.startswith("/") or self.root_path.endswith("/")):
            raise ConfigError(f"root_path={self.root_path!r} must begin with '/' and not end with it.")
        if self.compress_over_bytes < 0 or self.keep_alive_s <= 0:
            raise ConfigError("compress_over_bytes must be 0 or more, keep_alive_s above 0.")
        for middleware in self.middlewares:
            if not isinstance(_class_of(middleware), type):
                raise ConfigError(
                    f"middlewares: {middleware!r} is neither a class nor a pair of a class and its arguments."
                )

    def open_access_log(self) -> AccessLog | None:
        """The access log, opened; None if there shall be none.

        Raises:
            ConfigError: Its file cannot be opened.
        """
        if not self.access_log:
            return None
        return AccessLog(STDERR if self.access_log is True else self.access_log)

    @property
    def own_paths(self) -> frozenset[str]:
        """Paths that no API may claim."""
        own = {self.health_path, self.info_path, "/ready", "/metrics", "/mcp/"}
        if self.docs:
            own |= {"/docs", "/openapi.json"}
        if self.shutdown:
            own.add(self.shutdown_path)
        return frozenset(own)

    @property
    def open_paths(self) -> frozenset[str]:
        """Paths that need no key: probes of an orchestrator have none, and the docs hold no secret."""
        return frozenset({self.health_path, "/ready", "/docs", "/openapi.json"})

    @property
    def cold_reason(self) -> str | None:
        """Why every route must take the cold lane, or None."""
        reasons = {
            "user middleware sees its requests": bool(self.middlewares),
            "CORS headers are added to its answers": self.cors is not None,
            "tracing is on": self.tracing,
            "its log tells the clients behind proxies": bool(self.trusted_proxies and self.access_log),
        }
        return next((reason for reason, holds in reasons.items() if holds), None)


def _class_of(middleware: Middleware) -> Any:
    return middleware[0] if isinstance(middleware, tuple) else middleware
