"""Uvicorn as a part: its HTTP, its connections, but not its signals, which are the server's to read."""

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn

from blixt.serve.http.doorman import Doorman
from blixt.serve.http.hot_patience import Patience
from blixt.serve.http.patient import PatientApp
from blixt.serve.listen import Listening
from blixt.serve.uvicorn_options import passed

if TYPE_CHECKING:
    from blixt.serve.http.app import ServeApp


SOCKET_PING_S = 20.0


class UvicornServer(uvicorn.Server):
    """A uvicorn server that someone else tells to stop.

    Args:
        app: What it serves, with its service and the lanes' table.
        listening: How.
        on_tick: Called ten times a second.
    """

    def __init__(self, app: "ServeApp | Doorman", listening: Listening, on_tick: Callable[[], None]) -> None:
        limits = app.service.limits
        settings: dict[str, Any] = {
            "http": _protocol(app, listening),
            "ws": "none" if isinstance(app, Doorman) else "websockets-sansio",
            "ws_max_size": limits.max_payload_bytes,
            "ws_ping_interval": SOCKET_PING_S,
            "ws_ping_timeout": SOCKET_PING_S,
            "lifespan": "on",
            "log_level": listening.log_level,
            "access_log": False,
            "ssl_certfile": listening.ssl_certfile,
            "ssl_keyfile": listening.ssl_keyfile,
            "ssl_keyfile_password": listening.ssl_keyfile_password,
            "proxy_headers": False,
            "timeout_keep_alive": max(1, round(limits.keep_alive_s)),
            "timeout_graceful_shutdown": max(1, round(limits.stop_s)),
            "h11_max_incomplete_event_size": limits.max_header_bytes,
        }
        watched = callable(settings["http"])
        served: Any = app if watched else PatientApp(app, Patience.of(limits, float("inf")))
        super().__init__(uvicorn.Config(served, **{**settings, **passed(listening.uvicorn)}))
        self._was_started = asyncio.Event()
        self._ticked = on_tick

    async def startup(self, sockets: Any = None) -> None:
        """Uvicorn: bind and begin; note that it is done."""
        await super().startup(sockets)
        self._was_started.set()

    async def on_tick(self, counter: int) -> bool:
        """Uvicorn: ten times a second."""
        self._ticked()
        return await super().on_tick(counter)

    async def until_started(self, serving: "asyncio.Task[None]") -> None:
        """Wait until connections are accepted, or until serving has failed."""
        started = asyncio.create_task(self._was_started.wait())
        await asyncio.wait({started, serving}, return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if serving.done():
            await serving

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Uvicorn: would install its own handlers."""
        yield


def _protocol(app: "ServeApp | Doorman", listening: Listening) -> Any:
    """The hot lane's protocol if it can be had, else uvicorn's own; the service is told each path's lane.

    Without a hot route the protocol still watches over slow clients and large headers.
    """
    from blixt.serve.http.hot_routes import choose, unfit_reason
    from blixt.serve.service import LaneChoice

    unfit = 'http="h11"' if listening.http == "h11" else unfit_reason()
    off = unfit if listening.hot_lane else "hot_lane=False"
    routes, app.service.lanes = choose(app.lanes, app.cold_reason, off)
    sockets = app.sockets.keys() - app.lanes.keys()
    app.service.lanes |= {path: LaneChoice("cold", "a websocket") for path in sockets}
    if unfit is not None:
        return listening.http
    from blixt.serve.http.hot_known import protocol_factory

    return protocol_factory(routes, app.service)
