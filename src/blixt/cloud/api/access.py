"""What a route demands of its caller: declared where the route is, checked when the app is built."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, WebSocket
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, APIWebSocketRoute
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from blixt.cloud.api.context import Cloud, cloud_of
from blixt.cloud.errors import CloudError, Forbidden, Unauthenticated
from blixt.cloud.identity import Principal
from blixt.cloud.identity.roles import declared

COOKIE = "blixt_session"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_PUBLIC = "__blixt_public__"
_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])


class Access:
    """A dependency that lets in who may do `action` to `kind` in the path's teamspace `{ts}`."""

    def __init__(self, action: str, kind: str) -> None:
        if not declared(action, kind):
            raise ValueError(f"No rule in identity/roles.py speaks of {action!r} on {kind!r}.")
        self.action = action
        self.kind = kind

    async def __call__(self, connection: HTTPConnection) -> Principal:
        """Return the caller.

        Raises:
            Unauthenticated: When nobody is signed in.
            Forbidden: When the caller may not, or the request comes from another site.
            NotFound: When the caller may not know the teamspace.
        """
        cloud = cloud_of(connection)
        principal = await principal_of(connection)
        if principal is None:
            raise Unauthenticated(
                "You are not signed in, or your token is unknown, expired or revoked.",
                "Send 'Authorization: Bearer TOKEN'; the first user's token is in the server's data folder.",
            )
        teamspace: str | None = connection.path_params.get("ts")
        try:
            cloud.identity.authorize(principal, self.action, self.kind, teamspace)
        except Forbidden:
            await run_in_threadpool(self._write_refusal, cloud, principal, teamspace, connection)
            raise
        return principal

    def _write_refusal(
        self, cloud: Cloud, principal: Principal, teamspace: str | None, connection: HTTPConnection
    ) -> None:
        if self.action != "read":
            name = str(connection.path_params.get("name", ""))
            cloud.audit.write(principal, self.action, self.kind, teamspace or "", name, outcome="denied")


def allow(action: str, kind: str) -> Any:
    """Declare a route's demand; as the default of a parameter it gives the caller's `Principal`.

    >>> def stop_job(ts: str, name: str, caller: Principal = allow("operate", "job")) -> None: ...
    """
    return Depends(Access(action, kind))


def public(endpoint: _Endpoint) -> _Endpoint:
    """Declare that a route needs no signed-in caller, or checks its caller itself."""
    setattr(endpoint, _PUBLIC, True)
    return endpoint


async def principal_of(connection: HTTPConnection) -> Principal | None:
    """Return who sent the request, by bearer token or cookie; None when nobody is signed in.

    Raises:
        Forbidden: When a cookie comes with a request that another site may have made.
    """
    header = connection.headers.get("authorization", "")
    scheme, _, bearer = header.partition(" ")
    if header:
        token = bearer.strip() if scheme.lower() == "bearer" else ""
    else:
        token = connection.cookies.get(COOKIE, "")
        if token and _needs_origin(connection):
            check_origin(connection)
    if not token:
        return None
    identity = cloud_of(connection).identity
    return identity.cached(token) or await run_in_threadpool(identity.authenticate, token)


async def websocket_principal(websocket: WebSocket) -> Principal | None:
    """Return who opened a WebSocket, by bearer token or cookie; a cookie needs the right Origin."""
    return await principal_of(websocket)


def check_origin(connection: HTTPConnection, *, required: bool = True) -> None:
    """Refuse a request that a page of another site made.

    Raises:
        Forbidden: When the Origin is not this server's, or is missing though `required`.
    """
    origin = connection.headers.get("origin")
    if origin is None and not required:
        return
    if origin is None or urlsplit(origin).netloc != connection.headers.get("host"):
        raise Forbidden(
            "This request carries your cookie but was not made by the console's own pages.",
            "Scripts send 'Authorization: Bearer TOKEN' instead of the cookie.",
        )


def _needs_origin(connection: HTTPConnection) -> bool:
    return connection.scope["type"] == "websocket" or connection.scope["method"] not in _SAFE_METHODS


def check_declarations(routers: Iterable[APIRouter]) -> None:
    """Make sure that every route says who may call it.

    Raises:
        RuntimeError: Naming the routes that do not.
    """
    missing = [
        f"{','.join(sorted(getattr(route, 'methods', None) or ['WS']))} {getattr(route, 'path', route)}"
        for router in routers
        for route in router.routes
        if not _is_declared(route)
    ]
    if missing:
        raise RuntimeError(f"These routes declare no access (use allow or public): {'; '.join(missing)}")


def _is_declared(route: object) -> bool:
    if not isinstance(route, APIRoute | APIWebSocketRoute):
        return False
    return hasattr(route.endpoint, _PUBLIC) or any(
        isinstance(dependant.call, Access) for dependant in _walk(route.dependant)
    )


def _walk(dependant: Dependant) -> Iterator[Dependant]:
    for child in dependant.dependencies:
        yield child
        yield from _walk(child)


async def refuse_websocket(websocket: WebSocket, error: CloudError) -> None:
    """Tell a WebSocket's client why it is refused: by an HTTP answer where possible, else by a close."""
    from starlette.responses import JSONResponse
    from starlette.websockets import WebSocketState

    fresh = websocket.application_state == WebSocketState.CONNECTING
    if fresh and "websocket.http.response" in websocket.scope.get("extensions", {}):
        await websocket.send_denial_response(JSONResponse(error.to_json(), status_code=error.status))
    else:
        await websocket.close(1008, error.message[:120])
