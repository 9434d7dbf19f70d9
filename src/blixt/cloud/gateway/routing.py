"""Which upstream a request belongs to: a table in memory and a pure match of host and path.

The runtime fills the table from the change log; a request costs two dictionary look-ups and no I/O.
"""

import asyncio
import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from blixt.cloud.gateway.errors import BadRequest
from blixt.cloud.gateway.heads import RequestHead

_AUTHORITY = re.compile(rb"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._~-]+)(?::([0-9]{1,5}))?")
_PORT_APP = re.compile(r"p([1-9][0-9]{0,4})")


@dataclass(frozen=True, slots=True)
class Target:
    """A port inside an allocation."""

    allocation_id: str
    port: int


@dataclass(frozen=True, slots=True)
class Backend:
    """A deployment as the gateway sees it.

    Attributes:
        uid: the object's uid, the key of `stats()`.
        teamspace: its teamspace.
        name: its name; the public path is `/d/{teamspace}/{name}/`.
        public: serve without a token.
        replicas: those that are ready.
        state: "failed" and "stopped" answer 503 at once; otherwise requests wait while there is no replica.
        reason: why it failed or stopped, told to the caller.
        max_concurrency: requests in flight a replica may have, 0 for no cap.
        max_waiting: requests that may wait.
        hold_s: how long one may wait.
    """

    uid: str
    teamspace: str
    name: str
    public: bool = False
    replicas: tuple[Target, ...] = ()
    state: str = "sleeping"
    reason: str = ""
    max_concurrency: int = 0
    max_waiting: int = 256
    hold_s: float = 120.0


@dataclass(frozen=True, slots=True)
class StudioApp:
    """An app inside a Studio: its port, and headers every request to it gets (such as its own token)."""

    port: int
    inject_headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class StudioRoute:
    """A Studio as the gateway sees it; `allocation_id` is None while it does not run."""

    uid: str
    teamspace: str
    name: str
    allocation_id: str | None
    apps: Mapping[str, StudioApp] = field(default_factory=dict[str, StudioApp])

    def app(self, name: str) -> StudioApp | None:
        """The named app, or for `p8000` the bare port 8000."""
        known = self.apps.get(name)
        if known is not None:
            return known
        port = _PORT_APP.fullmatch(name)
        return StudioApp(int(port[1])) if port and int(port[1]) < 65536 else None


def studio_label(app: str | int, uid: str) -> str:
    """The host label of an app: `jupyter-0123456789ab`, or `p8000-0123456789ab` for a port."""
    return f"{f'p{app}' if isinstance(app, int) else app}-{uid[:12].lower()}"


@dataclass(frozen=True, slots=True)
class ApiMatch:
    """Everything that is not below: the API and the console."""


@dataclass(frozen=True, slots=True)
class DeploymentMatch:
    """A path under `/d/`; `backend` is None when there is no such deployment."""

    teamspace: str
    name: str
    backend: Backend | None
    prefix: bytes
    rest: bytes


@dataclass(frozen=True, slots=True)
class StudioMatch:
    """A host under the Studio domain; `route` is None when there is no such Studio."""

    label: str
    app: str
    route: StudioRoute | None


Match = ApiMatch | DeploymentMatch | StudioMatch
_API = ApiMatch()


class RouteTable:
    """All routes; used from the event loop's thread only."""

    def __init__(self) -> None:
        self._deployments: dict[str, Backend] = {}
        self._by_path: dict[tuple[str, str], Backend] = {}
        self._studios: dict[str, StudioRoute] = {}
        self._by_uid12: dict[str, StudioRoute] = {}
        self._listeners: list[Callable[[str], None]] = []
        self._awaited: set[asyncio.Future[None]] = set()

    def set_deployment(self, backend: Backend) -> None:
        """Add or replace a deployment's route; waiting requests see new replicas at once."""
        self._forget(backend.uid)
        self._deployments[backend.uid] = backend
        self._by_path[backend.teamspace, backend.name] = backend
        self._changed(backend.uid)

    def set_studio(self, route: StudioRoute) -> None:
        """Add or replace a Studio's route."""
        self._forget(route.uid)
        self._studios[route.uid] = route
        self._by_uid12[route.uid[:12].lower()] = route
        self._changed(route.uid)

    def remove(self, uid: str) -> None:
        """Remove a route; an unknown uid is fine."""
        self._forget(uid)
        self._changed(uid)

    def deployment(self, uid: str) -> Backend | None:
        """The deployment with this uid."""
        return self._deployments.get(uid)

    async def arrival(self, teamspace: str, name: str, wait_s: float) -> Backend | None:
        """The deployment of this name, waiting a moment for one whose route is still on its way here."""
        path = (teamspace, name)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while path not in self._by_path:
                    change: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._awaited.add(change)
                    try:
                        await change
                    finally:
                        self._awaited.discard(change)
        return self._by_path.get(path)

    def studio(self, uid: str) -> StudioRoute | None:
        """The Studio with this uid."""
        return self._studios.get(uid)

    def deployments(self) -> list[Backend]:
        """All deployments."""
        return list(self._deployments.values())

    def subscribe(self, listener: Callable[[str], None]) -> None:
        """Call `listener(uid)` after every change."""
        self._listeners.append(listener)

    def match(self, host: str, target: bytes, domain: str) -> Match:
        """Find the upstream of a request to `host` (no port, lower case) for `target`."""
        if host.endswith("." + domain):
            label = host[: -len(domain) - 1]
            app, _, uid12 = label.partition("-")
            return StudioMatch(label, app, self._by_uid12.get(uid12))
        if target.startswith(b"/d/"):
            path, question, query = target.partition(b"?")
            parts = path.split(b"/", 4)
            if len(parts) >= 4 and parts[3]:
                teamspace, name = parts[2].decode("latin-1"), parts[3].decode("latin-1")
                rest = b"/" + (parts[4] if len(parts) == 5 else b"") + question + query
                backend = self._by_path.get((teamspace, name))
                return DeploymentMatch(teamspace, name, backend, b"/".join(parts[:4]), rest)
        return _API

    def _forget(self, uid: str) -> None:
        backend = self._deployments.pop(uid, None)
        if backend is not None and self._by_path.get((backend.teamspace, backend.name)) is backend:
            del self._by_path[backend.teamspace, backend.name]
        route = self._studios.pop(uid, None)
        if route is not None and self._by_uid12.get(uid[:12].lower()) is route:
            del self._by_uid12[uid[:12].lower()]

    def _changed(self, uid: str) -> None:
        for listener in self._listeners:
            listener(uid)
        for change in self._awaited:
            if not change.done():
                change.set_result(None)


def locate(head: RequestHead) -> tuple[str, bytes]:
    """Read a request's host (lower case, no port) and its target in origin form.

    An absolute target (`GET http://host/path`) replaces the Host header, as HTTP demands.

    Raises:
        BadRequest: no Host, several, or one that is not a host; CONNECT; a target in another form.
    """
    target = head.target
    if not target.startswith(b"/"):
        scheme, _, after = target.partition(b"://")
        if scheme.lower() in (b"http", b"https") and head.method != b"CONNECT":
            authority, slash, path = after.partition(b"/")
            if b"?" not in authority:
                _set_host(head, authority)
                target = slash + path if slash else b"/"
        elif target == b"*" and head.method == b"OPTIONS":
            target = b"/"
    if not target.startswith(b"/"):
        raise BadRequest("The request target must be a path such as `/api/v1/health`.")
    authority = head.index.get(b"host")
    if authority is None:
        if head.minor == 1:
            raise BadRequest("The request has no Host header.")
        _set_host(head, authority := b"localhost")
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        raise BadRequest("The Host header is not one `host[:port]`.")
    return found[1].decode("ascii").lower().rstrip("."), target


def _set_host(head: RequestHead, authority: bytes) -> None:
    head.headers = [(name, value) for name, value in head.headers if name != b"host"]
    head.headers.insert(0, (b"host", authority))
    head.index[b"host"] = authority
