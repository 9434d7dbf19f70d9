"""The server: every part of the cloud in one process, behind one public port.

`python -m blixt.cloud.server --data-dir DIR` runs one in the foreground; `blixt up` supervises one.
The gateway owns the public port; the API application answers on a unix socket behind it.
"""

import argparse
import asyncio
import contextlib
import fcntl
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path

import uvicorn

from blixt import __version__
from blixt.cloud.api import agents as agent_routes
from blixt.cloud.api import build_app, open_cloud
from blixt.cloud.api import deployments as deployment_routes
from blixt.cloud.api import jobs as job_routes
from blixt.cloud.api import studios as studio_routes
from blixt.cloud.controllers.runtime import Runtime
from blixt.cloud.engines import EngineError, LocalEngine
from blixt.cloud.errors import CloudError
from blixt.cloud.exits import ANOTHER_SERVER, BAD_DATA_DIR, FAILED, PORT_IN_USE
from blixt.cloud.gateway import Gateway, GatewayStartError
from blixt.cloud.identity import Principal
from blixt.cloud.identity.secrets import write_private
from blixt.cloud.settings import Settings

LONGEST_SOCKET_PATH = 100
API_STOP_TIMEOUT_S = 5.0
DRAIN_S = 1.0

log = logging.getLogger("blixt.server")


class StartError(Exception):
    """The server cannot start; the message says why and what to do, `exit_code` tells scripts."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class _ApiServer(uvicorn.Server):
    """uvicorn without its signal handlers: the whole server has one way to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals alone."""
        yield


class Server:
    """One running cloud.

    Args:
        settings: Data folder and address.
        isolation: How the local engine separates workloads: auto, sandbox or process.
    """

    def __init__(self, settings: Settings, *, isolation: str = "auto") -> None:
        self._settings = settings
        self._isolation = isolation
        self._stop = asyncio.Event()

    async def run(self, ready_fd: int | None = None) -> None:
        """Serve until SIGTERM or SIGINT, then release everything.

        Args:
            ready_fd: Where to write the server's address once it answers.

        Raises:
            StartError: The port is taken, or no engine works.
        """
        cloud = await asyncio.to_thread(open_cloud, self._settings)
        try:
            engine = await asyncio.to_thread(LocalEngine, self._settings.data_dir, isolation=self._isolation)
        except EngineError as error:
            raise StartError(str(error), FAILED) from error
        runtime = Runtime(cloud, engine)
        with _socket_path(self._settings.data_dir) as socket:
            gateway = self._gateway(runtime, socket)
            try:
                port = await gateway.start(self._settings.host, self._settings.port)
            except GatewayStartError as error:
                raise StartError(str(error), PORT_IN_USE) from error
            runtime.gateway, runtime.url = gateway, _url(self._settings.host, port)
            api = _ApiServer(_api_config(runtime, socket))
            serving = asyncio.create_task(api.serve())
            working = asyncio.create_task(runtime.run())
            await _started(api, serving)
            self._handle_signals()
            self._announce(runtime.url, engine, ready_fd)
            try:
                await self._until_stopped(serving, working)
            finally:
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)
                await runtime.shut_down()
                cloud.store.close()
                await gateway.stop(DRAIN_S)
                api.should_exit = True
                await asyncio.wait({serving}, timeout=API_STOP_TIMEOUT_S)
                # A machine that was being started in a thread is released there: wait for its end.
                await asyncio.get_running_loop().shutdown_default_executor()
                engine.close()
                cloud.close()
                self._settings.server_file.unlink(missing_ok=True)

    async def _until_stopped(self, serving: "asyncio.Task[None]", working: "asyncio.Task[None]") -> None:
        """Wait for a signal; a part that dies takes the server along, and the supervisor starts a new one."""
        stopping = asyncio.create_task(self._stop.wait())
        done, _ = await asyncio.wait({stopping, serving, working}, return_when=asyncio.FIRST_COMPLETED)
        if stopping in done:
            log.info("stopping")
            return
        stopping.cancel()
        for task in done:
            await task  # raises what ended it
        raise StartError("A part of the server ended by itself.", FAILED)

    def _gateway(self, runtime: Runtime, socket: Path) -> Gateway:
        identity = runtime.cloud.identity

        async def authenticate(token: str) -> Principal | None:
            return identity.cached(token) or await asyncio.to_thread(identity.authenticate, token)

        async def authorize(principal: Principal, teamspace: str) -> bool:
            try:
                identity.authorize(principal, "use", "deployment", teamspace)
            except CloudError:
                return False
            return True

        return Gateway(runtime.table, runtime.hub.dial, authenticate, authorize, runtime.wake, api=socket)

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    def _announce(self, url: str, engine: LocalEngine, ready_fd: int | None) -> None:
        state = {"url": url, "pid": os.getpid(), "version": __version__}
        write_private(self._settings.server_file, json.dumps(state))
        if engine.warning:
            log.warning("%s", engine.warning)
        log.info("blixt %s is ready at %s (%s)", __version__, url, engine.isolation)
        if ready_fd is not None:
            os.write(ready_fd, json.dumps(state).encode() + b"\n")
            os.close(ready_fd)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a server; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m blixt.cloud.server")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--isolation", choices=("auto", "sandbox", "process"), default="auto")
    parser.add_argument("--ready-fd", type=int)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = Settings.resolve(options.data_dir, options.host, options.port)
        with _only_server(settings):
            _run(Server(settings, isolation=options.isolation), options.ready_fd)
    except StartError as error:
        print(f"blixt: {error}", file=sys.stderr)
        return error.exit_code
    except CloudError as error:
        print(f"blixt: {error.message} {error.hint}".strip(), file=sys.stderr)
        return BAD_DATA_DIR
    return 0


def _run(server: Server, ready_fd: int | None) -> None:
    try:
        from uvloop import new_event_loop
    except ImportError:
        new_event_loop = asyncio.new_event_loop
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(server.run(ready_fd))


@contextlib.contextmanager
def _only_server(settings: Settings) -> Generator[None]:
    """Hold the data folder's lock: two servers on one folder would fight over its workloads."""
    settings.make_data_dir()
    try:
        lock = (settings.data_dir / "server.lock").open("w")
    except OSError as error:
        words = f"The data folder {settings.data_dir} is not writable: {error.strerror}."
        raise StartError(words, BAD_DATA_DIR) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StartError(
                f"Another server is running on the data folder {settings.data_dir}. "
                "Stop it with `blixt down`, or choose another folder with --data-dir.",
                ANOTHER_SERVER,
            ) from error
        yield


@contextlib.contextmanager
def _socket_path(data_dir: Path) -> Generator[Path]:
    """Where the API listens: in the data folder, or in a short private folder when that path is too long."""
    path = data_dir / "api.sock"
    private: str | None = None
    if len(str(path)) > LONGEST_SOCKET_PATH:
        private = tempfile.mkdtemp(prefix="blixt-")
        path = Path(private) / "api.sock"
    path.unlink(missing_ok=True)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        if private:
            shutil.rmtree(private, ignore_errors=True)


def _api_config(runtime: Runtime, socket: Path) -> uvicorn.Config:
    routers = [module.router for module in (agent_routes, studio_routes, job_routes, deployment_routes)]
    app = build_app(runtime.cloud, routers)
    app.state.runtime = runtime
    return uvicorn.Config(
        app,
        uds=str(socket),
        lifespan="off",
        log_level="warning",
        access_log=False,
        proxy_headers=True,
        forwarded_allow_ips="*",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=3,
        ws_per_message_deflate=False,
    )


async def _started(api: uvicorn.Server, serving: "asyncio.Task[None]") -> None:
    """Wait until the API listens.

    Raises:
        StartError: It ended instead.
    """
    while not api.started:
        if serving.done():
            raise StartError("The API could not listen on its socket.", FAILED)
        await asyncio.sleep(0.005)


def _url(host: str, port: int) -> str:
    reachable = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
    return f"http://{reachable}:{port}"


if __name__ == "__main__":
    raise SystemExit(main())
