"""The server: what is served, on which devices, within which limits; and the process that does it."""

import asyncio
import contextlib
import dataclasses
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TextIO

from blixt.serve.api import API
from blixt.serve.config import Limits, api_key_of
from blixt.serve.devices import resolve_devices
from blixt.serve.errors import ConfigError, ServeError
from blixt.serve.listen import address_of, listen
from blixt.serve.plan import make_plan
from blixt.serve.service import Service, path_of

if TYPE_CHECKING:
    from blixt.serve.http.app import ServeApp

OWN_PATHS = frozenset({"/health", "/ready", "/info", "/metrics", "/docs", "/redoc", "/openapi.json"})


class Server:
    """Serves one API or several on one port.

    Args:
        api: One `API` or a list with different paths.
        accelerator: "auto", "cpu", "cuda" or "mps".
        devices: "auto" (every GPU, or one CPU), a count, or a list of GPU indexes.
        workers_per_device: Worker processes on each device, for each API.
        timeout_s: How long a client waits for progress: the whole answer, or a stream's next piece. Then it
            gets 504, and a worker that still hangs a moment later is killed and replaced.
        api_key: Clients must send it as `Authorization: Bearer` or `X-API-Key`. Default: the environment's
            `BLIXT_SERVE_API_KEY`; without either the server is open.
        max_queue: Requests that may wait for a worker; more get 429.
        limits: Every other bound, see `Limits`; its `timeout_s` and `max_queue` are replaced by those above.

    Raises:
        ConfigError: An argument or a hook is wrong.

    Example:
        >>> class Double(API):
        ...     def predict(self, x: float) -> float:
        ...         return 2 * x
        >>> Server(Double(), accelerator="cpu").apis[0].api_path
        '/predict'
    """

    def __init__(
        self,
        api: API | Sequence[API],
        accelerator: str = "auto",
        devices: int | str | Sequence[int] = "auto",
        workers_per_device: int = 1,
        timeout_s: float = 30.0,
        api_key: str | None = None,
        max_queue: int = 1024,
        *,
        limits: Limits | None = None,
    ) -> None:
        self.apis = list(api) if isinstance(api, Sequence) else [api]
        self.limits = dataclasses.replace(limits or Limits(), timeout_s=timeout_s, max_queue=max_queue)
        if isinstance(workers_per_device, bool) or workers_per_device < 1:
            raise ConfigError(f"workers_per_device={workers_per_device!r} is not a count of at least 1.")
        self.devices = resolve_devices(accelerator, devices) * workers_per_device
        self.api_key = api_key_of(api_key)
        _check(self.apis)
        self._service = Service(self.apis, self.devices, self.limits)
        self._app: ServeApp | None = None

    @property
    def app(self) -> "ServeApp":
        """The ASGI app (a FastAPI), made once. Its lifespan starts and ends the workers."""
        if self._app is None:
            from blixt.serve.http.app import ServeApp

            self._app = ServeApp(self._service, self.api_key)
        return self._app

    def run(
        self,
        host: str = "127.0.0.1",
        port: int = 8000,
        *,
        uds: str | None = None,
        log_level: str = "warning",
        on_listening: Callable[[str], None] | None = None,
    ) -> None:
        """Serve until SIGTERM or Ctrl-C, then finish what was admitted and return.

        Args:
            host: Address to listen on.
            port: Port; 0 takes a free one and prints it.
            uds: Path of a unix socket to listen on instead.
            log_level: Level of uvicorn's own log.
            on_listening: Called with the URL (or the unix socket's path) once connections are accepted.

        Raises:
            SystemExit: With a `ServeError`'s code, after its sentence on stderr: the port is in use (98),
                `setup` failed again and again (3).
        """
        try:
            with contextlib.closing(listen(host, port, uds)) as sock:
                address = address_of(sock)
                _say(f"{address} serves {', '.join(path_of(api) for api in self.apis)}; Ctrl-C stops")
                if on_listening is not None:
                    on_listening(address)
                self._run_loop(sock, log_level)
        except ServeError as error:
            _say(f"error: {error}", file=sys.stderr)
            raise SystemExit(error.exit_code) from None
        except KeyboardInterrupt:  # before the loop reads signals itself
            raise SystemExit(130) from None

    def _run_loop(self, sock: socket.socket, log_level: str) -> None:
        try:
            from uvloop import new_event_loop
        except ImportError:
            new_event_loop = asyncio.new_event_loop
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(self._serve(sock, log_level))

    async def _serve(self, sock: socket.socket, log_level: str) -> None:
        from blixt.serve.http.uvicorn_server import UvicornServer

        app = self.app
        front = UvicornServer(app, log_level, self.limits.stop_s)
        asked = _signals()
        serving = asyncio.create_task(front.serve(sockets=[sock]))
        await front.until_started(serving)
        service, loop = self._service, asyncio.get_running_loop()
        announce = loop.create_task(_announce(service))
        assert service.fatal is not None
        stop = loop.create_task(asked.get())
        await asyncio.wait({serving, stop, service.fatal}, return_when=asyncio.FIRST_COMPLETED)
        announce.cancel()
        if not service.fatal.done():
            _say("finishing admitted requests; Ctrl-C again stops at once")
            again = loop.create_task(asked.get())
            await _first(loop.create_task(service.drain()), again)
            service.hurried = not again.cancelled()
            service.fail_all()
        front.should_exit = True
        await serving
        if service.fatal.done():
            raise service.fatal.result()


def _check(apis: list[API]) -> None:
    if not apis:
        raise ConfigError("Server needs at least one API.")
    for api in apis:
        if not isinstance(api, API):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may be untyped
            raise ConfigError(
                f"Server got {api!r}, which is no API; pass instances of a subclass of blixt.serve.API."
            )
        make_plan(api)
    paths = [path_of(api) for api in apis]
    taken = OWN_PATHS.intersection(paths)
    if taken:
        raise ConfigError(f"api_path={min(taken)!r} is the server's own route; choose another.")
    twice = {path for path in paths if paths.count(path) > 1}
    if twice:
        raise ConfigError(f"Two APIs claim {twice.pop()}; give each its own api_path (or server).")


def _signals() -> "asyncio.Queue[int]":
    asked: asyncio.Queue[int] = asyncio.Queue(maxsize=16)
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            asked.put_nowait(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    return asked


async def _first(*tasks: "asyncio.Task[object]") -> None:
    """Wait for one of the tasks and end the others."""
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _announce(service: Service) -> None:
    await service.until_ready()
    _say(f"ready, {len(service.devices)} worker(s) for each API on {', '.join(sorted(set(service.devices)))}")


def _say(text: str, file: TextIO | None = None) -> None:
    print(f"blixt serve: {text}", file=file or sys.stdout, flush=True)
