"""The server: what is served, on which devices, within which limits, by how many processes.

A worker imports the user's file, which imports this one: what only a front needs is imported when it is used.
"""

import dataclasses
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal

from blixt.serve.api import API
from blixt.serve.config import Limits
from blixt.serve.devices import resolve_devices
from blixt.serve.errors import ConfigError, ServeError

if TYPE_CHECKING:
    from blixt.serve.http.app import ServeApp
    from blixt.serve.http.auth import Keys
    from blixt.serve.http.doorman import Doorman
    from blixt.serve.http.web import Web
    from blixt.serve.listen import Listening
    from blixt.serve.service import Service

OWN_PATHS = frozenset({"/health", "/ready", "/info", "/metrics", "/docs", "/openapi.json"})
MAX_FRONTS = 63
CORES_PER_FRONT = 4


class Server:
    """Serves one API or several on one port.

    Args:
        api: One `API` or a list with different paths.
        accelerator: "auto", "cpu", "cuda" or "mps".
        devices: "auto" (every GPU, or one CPU), a count, or a list of GPU indexes.
        workers_per_device: Worker processes on each device: one count for every API, a list with one for each
            API, or a dict by `api_path`.
        timeout_s: How long a client waits for progress: the whole answer, or a stream's next piece. Then it
            gets 504, and a worker that still hangs a moment later is killed and replaced.
        api_key: Clients must send it, or one of a list or of a dict by name, as `Authorization: Bearer` or
            `X-API-Key`. Default: the environment's `BLIXT_SERVE_API_KEY`; without either the server is open.
        max_queue: Requests that may wait for a worker; more get 429.
        limits: Every other bound, see `Limits`; its `timeout_s` and `max_queue` are replaced by those above.
        web: Everything else about HTTP: middleware, CORS, docs, MCP, ..., see `Web`.
        callbacks: Told of what happens to every request, in the workers and here.
        loggers: Where the values of `API.log` go.
        fronts: Processes that take requests; "auto" is one for every four cores. One is right below about
            10,000 requests a second: several batch each on their own.
        hot_lane: Let eligible routes skip ASGI; `/info` says which do, and why others do not.

    Raises:
        ConfigError: An argument or a hook is wrong.

    Example:
        >>> class Double(API):
        ...     def predict(self, x: float) -> float:
        ...         return 2 * x
        >>> Server(Double(), accelerator="cpu").apis[0].api_path
        '/predict'
    """

    _uvicorn_may: frozenset[str] = frozenset()

    def __init__(
        self,
        api: API | Sequence[API],
        accelerator: str = "auto",
        devices: int | str | Sequence[int] = "auto",
        workers_per_device: int | Sequence[int] | Mapping[str, int] = 1,
        timeout_s: float = 30.0,
        api_key: "Keys" = None,
        max_queue: int = 1024,
        *,
        limits: Limits | None = None,
        web: "Web | None" = None,
        callbacks: Sequence[Any] = (),
        loggers: Sequence[Any] = (),
        fronts: int | Literal["auto"] = 1,
        hot_lane: bool = True,
    ) -> None:
        from blixt.serve.service import Served

        self.apis = list(api) if isinstance(api, Sequence) else [api]
        self.limits = dataclasses.replace(limits or Limits(), timeout_s=timeout_s, max_queue=max_queue)
        _check(self.apis, callbacks)
        places = resolve_devices(accelerator, devices)
        counts = _counts(workers_per_device, self.apis)
        self.api_key = _keys(api_key)
        self.web = web
        self.fronts = _fronts(fronts)
        self.hot_lane = hot_lane
        self.served = Served(
            self.apis, [places * count for count in counts], self.limits, tuple(callbacks), tuple(loggers)
        )
        self._service: Service | None = None
        self._app: ServeApp | None = None

    @property
    def devices(self) -> list[str]:
        """The device of every worker of the first API."""
        return self.served.devices[0]

    @property
    def service(self) -> "Service":
        """The APIs at work."""
        from blixt.serve.service import Service

        if self._service is None:
            self._service = Service(self.served)
        return self._service

    @property
    def app(self) -> "ServeApp":
        """The ASGI app (a FastAPI), made once. Its lifespan starts and ends the workers."""
        if self._app is None:
            self._app = self.make_app(self.service)
        return self._app

    def make_app(self, service: "Service") -> "ServeApp":
        """An app in front of a service."""
        from blixt.serve.http.app import ServeApp

        return ServeApp(service, self.api_key, self.web)

    def make_front_app(self, service: "Service") -> "ServeApp | Doorman":
        """The app of a front: the whole one only if something needs it from the start."""
        from blixt.serve.http.doorman import Doorman, suffices

        if self._app is not None:
            return self._app
        if suffices(self.apis, self.web):
            return Doorman(service, self.api_key, self.web, lambda: self.make_app(service))
        return self.make_app(service)

    def run(
        self,
        host: str = "127.0.0.1",
        port: int = 8000,
        *,
        uds: str | None = None,
        sock: socket.socket | None = None,
        log_level: str = "warning",
        ssl_certfile: str | None = None,
        ssl_keyfile: str | None = None,
        ssl_keyfile_password: str | None = None,
        uvicorn: Mapping[str, Any] | None = None,
        on_listening: Callable[[str], None] | None = None,
    ) -> None:
        """Serve until SIGTERM or Ctrl-C, then finish what was admitted and return.

        Args:
            host: Address to listen on.
            port: Port; 0 takes a free one and prints it.
            uds: Path of a unix socket to listen on instead.
            sock: A listening socket to serve on instead; it stays open.
            log_level: Level of uvicorn's own log.
            ssl_certfile: PEM file of a certificate: serve HTTPS.
            ssl_keyfile: PEM file of its key, if it is not in the same file.
            ssl_keyfile_password: Opens the key.
            uvicorn: More of uvicorn's settings, such as `{"headers": [("x-zone", "a")], "backlog": 64}`; what
                cannot be obeyed is refused by name.
            on_listening: Called with the URL (or the unix socket's path) once connections are accepted.

        Raises:
            SystemExit: With a `ServeError`'s code, after its sentence on stderr: the port is in use (98),
                `setup` failed again and again (3), an argument is wrong (2).
        """
        from blixt.serve.fronts_single import say
        from blixt.serve.listen import Listening, address_of, listen_many
        from blixt.serve.service import path_of
        from blixt.serve.uvicorn_options import check

        listening = Listening(
            log_level, ssl_certfile, ssl_keyfile, ssl_keyfile_password, self.hot_lane, uvicorn or {}
        )
        try:
            check(listening.uvicorn, self._uvicorn_may)
            listening.check()
            if self.fronts > 1 and self._app is not None:
                raise ConfigError(
                    "Changes to `server.app` do not reach several fronts, each of which makes an app of its "
                    "own; use Web(middlewares=...), or fronts=1."
                )
            with ExitStack() as stack:
                if sock is not None:
                    socks = [sock] * self.fronts
                else:
                    opened = listen_many(host, port, uds, self.fronts, listening.backlog)
                    socks = [stack.enter_context(s) for s in opened]
                address = address_of(socks[0], listening.scheme)
                say(f"{address} serves {', '.join(path_of(api) for api in self.apis)}; Ctrl-C stops")
                if on_listening is not None:
                    on_listening(address)
                self._run(socks, listening)
        except ServeError as error:
            say(f"error: {error}", file=sys.stderr)
            raise SystemExit(error.exit_code) from None
        except KeyboardInterrupt:  # before the loop reads signals itself
            raise SystemExit(130) from None

    def _run(self, socks: list[socket.socket], listening: "Listening") -> None:
        from blixt.serve.fronts_single import run_loop, serve

        if self.fronts == 1:
            run_loop(serve(self, socks[0], listening), listening.loop)
            return
        from blixt.serve.fronts import supervise

        run_loop(supervise(self, socks, listening), listening.loop)


def _check(apis: list[API], callbacks: Sequence[Any]) -> None:
    from blixt.serve.plan import make_plan

    if not apis:
        raise ConfigError("Server needs at least one API.")
    for api in apis:
        if not isinstance(api, API):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may be untyped
            raise ConfigError(
                f"Server got {api!r}, which is no API; pass instances of a subclass of blixt.serve.API."
            )
        make_plan(api, callbacks)
    paths = [api.api_path for api in apis if api.spec is None]
    taken = OWN_PATHS.intersection(paths)
    if taken:
        raise ConfigError(f"api_path={min(taken)!r} is the server's own route; choose another.")
    twice = {path for path in paths if paths.count(path) > 1}
    if twice:
        raise ConfigError(f"Two APIs claim {twice.pop()}; give each its own api_path (or server).")


def _counts(given: int | Sequence[int] | Mapping[str, int], apis: list[API]) -> list[int]:
    """Workers on each device, by API."""
    from blixt.serve.service import path_of

    if isinstance(given, Mapping):
        unknown = given.keys() - {path_of(api) for api in apis}
        if unknown:
            raise ConfigError(f"workers_per_device names {min(unknown)!r}, which no API serves.")
        counts = [given.get(path_of(api), 1) for api in apis]
    elif isinstance(given, Sequence):
        counts = list(given)
        if len(counts) != len(apis):
            raise ConfigError(f"workers_per_device has {len(counts)} counts for {len(apis)} API(s).")
    else:
        counts = [given] * len(apis)
    for count in counts:
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(f"workers_per_device={given!r} is not a count of at least 1.")
    return counts


def _fronts(given: int | str) -> int:
    if given == "auto":
        return max(1, (os.cpu_count() or 1) // CORES_PER_FRONT)
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= MAX_FRONTS:
        raise ConfigError(f'fronts={given!r} is neither "auto" nor a count from 1 to {MAX_FRONTS}.')
    return given


def _keys(given: "Keys") -> "Keys":
    """The keys as given, else those of the environment; KeyRing checks them again."""
    keys = given if given is not None else os.environ.get("BLIXT_SERVE_API_KEY") or None
    if keys == "":
        raise ConfigError("api_key is empty: leave it out for an open server, or set a real key.")
    return keys
