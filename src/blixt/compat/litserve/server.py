"""LitServer: LitServe's server, with its arguments and routes, on blixt's."""

import logging
import multiprocessing
import os
import secrets
import socket
import sys
import warnings
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.middleware import Middleware

from blixt.serve import Server
from blixt.serve.errors import ServeError, SetupFailed
from blixt.serve.http.app import ServeApp
from blixt.serve.http.web import Web
from blixt.serve.listen import Listening
from blixt.serve.service import Service

from .adapter import adapt
from .api import LitAPI
from .app import INNER_INFO, LitAnswers, add_routes, describe
from .arguments import check_paths, check_routes, json_of, limits_of, port_of
from .callbacks.base import Bridge, Callback
from .connector import Connector
from .health import ToldHealth
from .loggers import Logger, LoggerConnector
from .loops.base import LitLoop
from .loops.checks import check_hooks
from .middlewares import MaxSizeMiddleware, RequestCountMiddleware
from .run_options import COLD, RunOptions, options_of
from .specs.queues import SpecServer
from .status import WorkerSetupStatus
from .utils import configure_logging, ssl_files_from_env

__all__ = ["LitServer", "Request", "Response"]

LIT_SERVER_API_KEY = os.environ.get("LIT_SERVER_API_KEY")
SHUTDOWN_API_KEY = os.environ.get("LIT_SHUTDOWN_API_KEY")
logger = logging.getLogger("litserve.server")
HOSTS = ("0.0.0.0", "127.0.0.1", "::")
MOVED = ("max_batch_size", "batch_timeout", "stream", "api_path", "loop", "spec")


class LitServer:
    """Serves one LitAPI or several on one port.

    Args:
        lit_api: One LitAPI, or a list with different paths.
        accelerator: "auto", "cpu", "cuda" or "mps".
        devices: "auto", a count, or a list of GPU indexes.
        workers_per_device: One count, a list by API, or a dict by path.
        timeout: Seconds that a request may wait for a worker; False or -1: for ever.
        healthcheck_path: Where health is told.
        info_path: Where the server describes itself.
        shutdown_path: Where it is asked to stop.
        enable_shutdown_api: Whether it may be.
        model_metadata: Shown by `info_path`; anything JSON.
        max_payload_size: Largest body, bytes.
        track_requests: Whether callbacks are told the number of active requests.
        callbacks: Told of what happens to requests.
        middlewares: ASGI middleware classes, or `(class, keyword arguments)`.
        loggers: Take the values of `LitAPI.log`.
        fast_queue: Accepted; there is no slow one.
        disable_openapi_url: Do not serve `/docs` and `/openapi.json`.
        restart_workers: Accepted; a worker that dies is always replaced.
        moved: Arguments that LitServe has moved to LitAPI; they still work, with a warning.

    Raises:
        ValueError: An argument cannot be.
    """

    def __init__(
        self,
        lit_api: LitAPI | Sequence[LitAPI],
        accelerator: str | None = "auto",
        devices: int | str | Sequence[int] = "auto",
        workers_per_device: int | Sequence[int] | Mapping[str, int] = 1,
        timeout: float | bool = 30,
        healthcheck_path: str = "/health",
        info_path: str = "/info",
        shutdown_path: str = "/shutdown",
        enable_shutdown_api: bool = False,
        model_metadata: Any = None,
        max_payload_size: float | None = None,
        track_requests: bool = False,
        callbacks: Callback | Sequence[Callback] | None = None,
        middlewares: Sequence[Any] | None = None,
        loggers: Logger | Sequence[Logger] | None = None,
        fast_queue: bool = False,
        disable_openapi_url: bool = False,
        restart_workers: bool = False,
        **moved: Any,
    ) -> None:
        self.litapi_connector: list[LitAPI] = list(lit_api) if isinstance(lit_api, Sequence) else [lit_api]
        if not self.litapi_connector:
            raise ValueError("LitServer needs at least one LitAPI")
        paths = {"healthcheck_path": healthcheck_path, "info_path": info_path, "shutdown_path": shutdown_path}
        if middlewares is not None and not isinstance(middlewares, list):
            raise ValueError("middlewares must be a list of tuples (class, arguments) or classes")
        check_paths(self.litapi_connector, paths)
        self.healthcheck_path, self.info_path, self.shutdown_path = paths.values()
        self.timeout = timeout
        self.model_metadata = json_of(model_metadata)
        self.max_payload_size = max_payload_size
        self.track_requests = track_requests
        self._has_docs = not disable_openapi_url
        self.workers_per_device = workers_per_device
        self._take_moved(moved)
        self._prepare()
        self.callbacks = _listed(callbacks)
        self._connector = Connector(accelerator, devices)
        self.device_names = self._connector.names()
        self.middlewares: list[Any] = [*_built_in(max_payload_size), *(middlewares or [])]
        self._health = ToldHealth(healthcheck_path, self.litapi_connector)
        web = _Web(
            middlewares=[
                (
                    LitAnswers,
                    {"streams": self._raw_streams(), "health": self._health, "empty": self._empty()},
                ),
                *self.middlewares[1:],
            ],
            docs=not disable_openapi_url,
            shutdown=enable_shutdown_api,
            shutdown_key=SHUTDOWN_API_KEY or secrets.token_urlsafe(24),
            health_path=healthcheck_path,
            info_path=INNER_INFO,
            shutdown_path=shutdown_path,
        )
        self._make = partial(
            _Server,
            self,
            [adapt(api) for api in self.litapi_connector],
            self._connector.accelerator,
            self._connector.devices,
            workers_per_device,
            api_key=LIT_SERVER_API_KEY,
            timeout_s=float("inf") if timeout in (False, -1) else float(timeout),
            limits=limits_of(max_payload_size),
            web=web,
            callbacks=[Bridge(callbacks, track_requests)] if callbacks else [],
            loggers=LoggerConnector(None, loggers).bridges(),
        )
        if self._connector.is_here():
            self._server  # noqa: B018  # what cannot be served is told now

    @cached_property
    def _server(self) -> "_Server":
        """blixt's; made when it is needed if its devices are not on this machine, which it would refuse."""
        try:
            return self._make()
        except ServeError as error:
            raise ValueError(str(error)) from error

    @property
    def app(self) -> ServeApp:
        """The ASGI app (a FastAPI); its lifespan starts and ends the workers."""
        return self._server.app

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncGenerator[Any]:
        """The workers' life, for an app that serves this one below a path of its own."""
        async with self.app.router.lifespan_context(self.app) as state:
            yield state

    @property
    def lit_api(self) -> LitAPI:
        """The first LitAPI."""
        return self.litapi_connector[0]

    @property
    def workers_setup_status(self) -> Mapping[Any, str]:
        """The workers' states by path and number: so many of a path's are ready. Set it to tell them by hand,
        and the health route says what follows from that."""
        if self._health.told is not None:
            return self._health.told
        states: dict[str, str] = {}
        for running in self._server.service.running:
            ready = int(running.pool.hub.workers_ready)
            for number in range(len(running.devices)):
                state = WorkerSetupStatus.READY if number < ready else WorkerSetupStatus.STARTING
                states[f"{running.api.api_path.strip('/')}_{number}"] = state
        return states

    @workers_setup_status.setter
    def workers_setup_status(self, states: Mapping[Any, str]) -> None:
        self._health.told = states

    @staticmethod
    def device_identifiers(accelerator: str, device: int | Sequence[int]) -> list[str]:
        """Names of devices, as torch knows them."""
        indexes = device if isinstance(device, Sequence) else [device]
        return [f"{accelerator}:{index}" for index in indexes]

    @property
    def devices(self) -> list[Any]:
        """Where workers run, as LitServe lists them."""
        return [name if name == "cpu" else [name] for name in self.device_names]

    def run(
        self,
        host: str = "0.0.0.0",
        port: str | int = 8000,
        num_api_servers: int | None = None,
        log_level: str = "info",
        generate_client_file: bool = True,
        api_server_worker_type: str | None = None,
        pretty_logs: bool = False,
        **kwargs: Any,
    ) -> None:
        """Serve until SIGTERM or Ctrl-C.

        Args:
            host: "0.0.0.0", "127.0.0.1" or "::".
            port: From 1024 to 65535.
            num_api_servers: Processes that take requests; one is enough below 10,000 requests a second.
            log_level: Of the HTTP server.
            generate_client_file: Write a small `client.py` into this folder, unless there is one.
            api_server_worker_type: "process" or "thread"; accepted.
            pretty_logs: Log through rich.
            kwargs: Uvicorn's settings, see `run_options`.

        Raises:
            ValueError: An argument cannot be.
            TypeError: Uvicorn knows no such setting, or it cannot be obeyed here.
            RuntimeError: The workers' setup failed.
        """
        if host not in HOSTS:
            raise ValueError(f"host must be '0.0.0.0', '127.0.0.1', or '::' but got {host}")
        number = port_of(port)
        if api_server_worker_type not in (None, "process", "thread"):
            raise ValueError(
                f"api_server_worker_type={api_server_worker_type!r}: Must be 'process' or 'thread'"
            )
        if num_api_servers is not None and num_api_servers < 1:
            raise ValueError("num_api_servers must be greater than 0")
        if pretty_logs:
            configure_logging(use_rich=True)
        if generate_client_file:
            self.generate_client_file(number)
        if self._has_docs:
            logger.info("Swagger UI is available at http://%s:%s/docs", host, number)
        self._server.fronts = num_api_servers or 1
        try:
            with ssl_files_from_env(kwargs) as files:
                options = options_of({**kwargs, **files})
                told = partial(_say_running, log_level)
                self._server.obey(options)
                self._server.run(
                    host,
                    number,
                    log_level=log_level,
                    on_listening=told,
                    uvicorn=options.uvicorn,
                    **options.run,
                )
        except SystemExit as error:
            if error.code == SetupFailed.exit_code:
                message = "One or more workers failed to start. Shutting down LitServe"
                raise RuntimeError(message) from error
            raise

    def facts(self) -> dict[str, Any]:
        """What the specs' endpoints may want to know of the server."""
        names = ("timeout", "model_metadata", "max_payload_size", "track_requests", "workers_per_device")
        return {**{name: getattr(self, name) for name in names}, "devices": self.devices}

    def _prepare_app_run(self, app: FastAPI) -> None:
        """Let a copy of the app count its active requests in `active_counter`, if they are tracked."""
        if self.track_requests:
            counting = Middleware(RequestCountMiddleware, active_counter=self.active_counter)
            app.user_middleware = [counting, *app.user_middleware]

    @cached_property
    def active_counter(self) -> Any:
        """Active requests of apps that were prepared by hand, over processes."""
        return multiprocessing.Value("i", 0)

    @staticmethod
    def generate_client_file(port: str | int = 8000) -> None:
        """Write a small `client.py` into this folder, unless there is one."""
        if os.path.exists("client.py"):
            return
        lines = [
            "import requests",
            "",
            f'response = requests.post("http://127.0.0.1:{port}/predict", json={{"input": 4.0}})',
            'print(f"Status: {response.status_code}\\nResponse:\\n {response.text}")',
        ]
        with open("client.py", "w") as file:
            file.write("\n".join(lines) + "\n")

    def _take_moved(self, moved: dict[str, Any]) -> None:
        unknown = moved.keys() - set(MOVED)
        if unknown:
            raise TypeError(f"LitServer knows no argument {min(unknown)!r}")
        if moved.keys() & {"max_batch_size", "batch_timeout"}:
            warnings.warn(
                "'max_batch_size' and 'batch_timeout' are being deprecated in `LitServer`; "
                "give them to `LitAPI`.",
                DeprecationWarning,
                stacklevel=3,
            )
        for api in self.litapi_connector:
            for name, value in moved.items():
                setattr(api, "_loop" if name == "loop" else name, value)

    def _prepare(self) -> None:
        patience = self.timeout if self.timeout not in (False, -1) else None
        for api in self.litapi_connector:
            if patience is not None and api.batch_timeout > patience:
                raise ValueError("batch_timeout must be less than request_timeout")
            api.request_timeout = self.timeout
            api.pre_setup(spec=None)
            if isinstance(api.loop, LitLoop):
                api.loop.pre_setup(api, api.spec)
            elif api.spec is None:
                check_hooks(api)
        check_routes(self.workers_per_device, self.litapi_connector)

    def _raw_streams(self) -> frozenset[str]:
        return frozenset(api.api_path for api in self.litapi_connector if api.stream and api.spec is None)

    def _empty(self) -> frozenset[tuple[str, str]]:
        """What the routes of OpenAI's specs answer besides POST."""
        specs = [api.spec for api in self.litapi_connector if api.spec is not None]
        return frozenset((spec.empty_on, spec.api_path) for spec in specs if spec.empty_on and spec.api_path)


def _built_in(max_payload_size: float | None) -> list[Any]:
    """The middlewares that every server has, listed before the user's."""
    size = [] if max_payload_size is None else [(MaxSizeMiddleware, {"max_size": max_payload_size})]
    return [LitAnswers, *size]


def _listed(callbacks: Callback | Sequence[Callback] | None) -> list[Callback]:
    if callbacks is None:
        return []
    return list(callbacks) if isinstance(callbacks, Sequence) else [callbacks]


class _Web(Web):
    """The key guards health too, as in LitServe."""

    @property
    def open_paths(self) -> frozenset[str]:
        """Paths that need no key."""
        return frozenset({"/ready", "/docs", "/openapi.json"})


class _Server(Server):
    """blixt's server with LitServe's routes in every front."""

    _uvicorn_may = COLD

    def __init__(self, lit: LitServer, apis: list[Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(apis, *args, **kwargs)
        self._described = describe(lit)
        self._info_path = lit.info_path
        self._specs = SpecServer(apis, lit.callbacks, **lit.facts())

    def make_app(self, service: Service) -> ServeApp:
        """blixt's app and LitServe's routes."""
        app = super().make_app(service)
        add_routes(app, self._described, self._info_path)
        self._specs.connect(app, service.of)
        return app

    def obey(self, options: RunOptions) -> None:
        """Take what was not known when the server was made."""
        self.limits = replace(self.limits, **options.limits)
        self.served = replace(self.served, limits=self.limits)
        self.service.served, self.service.limits = self.served, self.limits
        if options.root_path:
            self.web = replace(self.web or Web(), root_path=options.root_path)
            if self._app is not None:
                self._app.root_path, self._app.web = options.root_path, self.web

    def _run(self, socks: list[socket.socket], listening: Listening) -> None:
        self._specs.set_up()  # before the workers get theirs
        super()._run(socks, listening)


def _say_running(log_level: str, address: str) -> None:
    """What uvicorn says when it listens, for scripts that wait for these lines."""
    if log_level in ("info", "debug", "trace"):
        lines = ["Application startup complete.", f"Uvicorn running on {address} (Press CTRL+C to quit)"]
        print(*(f"INFO:     {line}" for line in lines), sep="\n", file=sys.stderr, flush=True)
