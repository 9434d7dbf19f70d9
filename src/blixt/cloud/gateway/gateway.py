"""The gateway itself: opens the public port, sweeps deadlines, drains, and answers the runtime."""

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar, cast

from blixt.cloud.gateway.channel import Channel, connect_unix
from blixt.cloud.gateway.connection import Connection
from blixt.cloud.gateway.context import API_TARGET, Context
from blixt.cloud.gateway.deadlines import durations
from blixt.cloud.gateway.errors import GatewayStartError, UnknownStudio
from blixt.cloud.gateway.lanes import Lanes, Stats
from blixt.cloud.gateway.limits import Limits
from blixt.cloud.gateway.routing import RouteTable, Target, studio_label
from blixt.cloud.gateway.sessions import LOGIN_PATH, Sessions
from blixt.cloud.gateway.streams import Dialer, Stream
from blixt.cloud.gateway.trust import Authenticate, Authorize, Trust
from blixt.cloud.gateway.upstream import Pool

P = TypeVar("P")

_BACKLOG = 1024


class Gateway:
    """The one public door.

    Args:
        table: the routes; keep it and change it while the gateway runs.
        dial: opens a Stream to a port inside an allocation.
        authenticate: a token to its principal, or None. A principal is opaque here.
        authorize: may this principal use the workloads of this teamspace?
        on_demand: called with a deployment's uid when a request waits for a replica; must not block.
        api: the unix socket of the API, which gets every request that no route claims.
        domain: Studio origins are `{app}-{uid12}.{domain}`.
        limits: bounds of time and memory.
    """

    def __init__(
        self,
        table: RouteTable,
        dial: Dialer,
        authenticate: Callable[[str], Awaitable[P | None]],
        authorize: Callable[[P, str], Awaitable[bool]],
        on_demand: Callable[[str], None],
        *,
        api: str | os.PathLike[str],
        domain: str = "localhost",
        limits: Limits | None = None,
    ) -> None:
        self._table = table
        self._dial = dial
        self._api = os.fspath(api)
        limits = limits or Limits()
        self._context = Context(
            limits=limits,
            durations=durations(limits),
            domain=domain,
            table=table,
            lanes=Lanes(table, on_demand, limits),
            pool=Pool(self._open, limits),
            trust=Trust(cast(Authenticate, authenticate), cast(Authorize, authorize), limits.trust_cache_s),
            sessions=Sessions(limits.ticket_s, limits.session_s, limits.session_count),
            clock=lambda: 0.0,
        )
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._port = 0
        table.subscribe(self._route_changed)

    async def start(self, host: str, port: int) -> int:
        """Open the public port.

        Returns:
            The bound port, which the system chose if `port` is 0.

        Raises:
            GatewayStartError: the port cannot be opened; the sentence says why and what to do.
        """
        loop = asyncio.get_running_loop()
        self._context.clock = loop.time
        limits = self._context.limits
        accept = partial(Channel, limits.buffer_bytes, partial(Connection, self._context))
        try:
            self._server = await loop.create_server(accept, host, port, backlog=_BACKLOG)
        except OSError as error:
            raise GatewayStartError(_explain(error, host, port)) from error
        self._port = int(self._server.sockets[0].getsockname()[1])
        self._sweep()
        return self._port

    async def stop(self, drain_s: float = 5.0) -> None:
        """Take no new connections, let running requests end for `drain_s`, then drop what is left."""
        context = self._context
        context.closing = True
        if self._server is not None:
            self._server.close()
        for connection in list(context.connections):
            connection.retire()
        await self._wait_connections(drain_s)
        for connection in list(context.connections):
            connection.channel.abort()
        await self._wait_connections(drain_s + 1.0)
        if self._sweeper is not None:
            self._sweeper.cancel()
        await context.pool.close()

    def stats(self) -> dict[str, Stats]:
        """Counters of every deployment in the table, by uid."""
        return self._context.lanes.stats()

    def issue_ticket(self, principal: object, uid: str, app: str | int, path: str = "/") -> str:
        """Make a link that signs the principal's browser in to a Studio's app, once, within a minute.

        Args:
            principal: as `authenticate` gave it; check first that it may use the Studio.
            uid: the Studio's uid.
            app: an app of its route, or a port number.
            path: where the browser goes after signing in.

        Raises:
            UnknownStudio: no such Studio or app in the route table.
        """
        route = self._table.studio(uid)
        label = studio_label(app, uid)
        name = label.partition("-")[0]
        if route is None or route.app(name) is None:
            raise UnknownStudio(f"There is no route to app {app!r} of Studio {uid!r}.")
        if not path.startswith("/") or path.startswith("//") or not path.isascii() or not path.isprintable():
            path = "/"
        ticket = self._context.sessions.issue_ticket(principal, uid, name, path)
        origin = f"http://{label}.{self._context.domain}:{self._port}"
        return f"{origin}{LOGIN_PATH.decode()}?ticket={ticket}"

    async def _open(self, target: Target) -> Stream:
        if target == API_TARGET:
            return await connect_unix(self._api)
        return await self._dial(target.allocation_id, target.port)

    async def _wait_connections(self, seconds: float) -> None:
        waits = [asyncio.ensure_future(c.wait_ended()) for c in self._context.connections]
        if waits:
            _, late = await asyncio.wait(waits, timeout=seconds)
            for wait in late:
                wait.cancel()

    def _sweep(self) -> None:
        context = self._context
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(context.connections):
            connection.check(now)
        context.pool.sweep()
        every = min(1.0, min(context.durations) / 4)
        self._sweeper = loop.call_later(every, self._sweep)

    def _route_changed(self, uid: str) -> None:
        if self._table.studio(uid) is None:
            self._context.sessions.forget_studio(uid)


def _explain(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is in use; stop what uses it, or choose another with `--port`."
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"Port {port} on {host} needs more rights; choose one above 1023 with `--port`."
    return f"Cannot listen on {host} port {port}: {error.strerror or error}; choose another `--host`."
