"""Applications a Studio offers, started on demand: JupyterLab on a free port with a token of its own."""

import asyncio
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from blixt.cloud.agent.channel import RemoteError
from blixt.cloud.agent.files import free_port
from blixt.cloud.agent.reaper import Child, Reaper

READY_TIMEOUT_S = 60.0
PROBE_INTERVAL_S = 0.1
TAIL_BYTES = 600


@dataclass
class App:
    """A running application."""

    child: Child
    port: int
    token: str


class Apps:
    """Starts an application once and remembers where it listens."""

    def __init__(self, run: Path, reaper: Reaper) -> None:
        self._log = run / "log"
        self._reaper = reaper
        self._apps: dict[str, App] = {}
        self._starting = asyncio.Lock()

    async def open(self, name: str, home: Path, env: Mapping[str, str]) -> dict[str, Any]:
        """The application's port and token, starting it when it does not run.

        Raises:
            RemoteError: There is no such application here, or it does not start.
        """
        if name != "jupyter":
            raise RemoteError(f"There is no application {name!r}; there is: jupyter.", "not_found")
        async with self._starting:
            app = self._apps.get(name)
            if app is None or app.child.exited.done():
                app = await self._start_jupyter(home, env)
                self._apps[name] = app
        return {"port": app.port, "token": app.token}

    async def _start_jupyter(self, home: Path, env: Mapping[str, str]) -> App:
        if find_spec("jupyterlab") is None:
            raise RemoteError("JupyterLab is not installed here: pip install 'blixt[studio]'.")
        port, token = free_port(), secrets.token_urlsafe(24)
        self._log.mkdir(parents=True, exist_ok=True)
        log = self._log / "jupyter.log"
        fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            child = self._reaper.spawn(
                jupyter_command(home, port),
                cwd=home,
                env={**env, "JUPYTER_TOKEN": token},
                stdout=fd,
                stderr=fd,
            )
        finally:
            os.close(fd)
        await _answers(child, port, log)
        return App(child, port, token)


def jupyter_command(home: Path, port: int) -> list[str]:
    """JupyterLab without a browser, on loopback, at the root of the Studio's own origin."""
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}"),
        "--ServerApp.port_retries=0",
        "--ServerApp.base_url=/",
        "--ServerApp.allow_remote_access=True",
        f"--ServerApp.root_dir={home}",
    ]
    return [*command, "--allow-root"] if os.geteuid() == 0 else command


async def _answers(child: Child, port: int, log: Path) -> None:
    """Wait until the port accepts connections."""
    deadline = asyncio.get_running_loop().time() + READY_TIMEOUT_S
    while asyncio.get_running_loop().time() < deadline:
        if child.exited.done():
            raise RemoteError(f"JupyterLab ended while starting: {_tail(log)}")
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(PROBE_INTERVAL_S)
            continue
        writer.close()
        return
    await child.stop(1.0)
    raise RemoteError(f"JupyterLab did not answer within {READY_TIMEOUT_S:.0f} s: {_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_bytes()[-TAIL_BYTES:].decode(errors="replace").strip()
