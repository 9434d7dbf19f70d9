"""What the server can ask an agent to do: one small function per operation, found by name in one table."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from blixt.cloud.agent import execs, files
from blixt.cloud.agent.apps import Apps
from blixt.cloud.agent.channel import Channel, RemoteError
from blixt.cloud.agent.mains import Mains
from blixt.cloud.agent.reaper import Reaper
from blixt.cloud.agent.settings import AgentSettings
from blixt.cloud.agent.terminals import Terminals

Params = dict[str, Any]
Operation = Callable[[Channel, Params], Awaitable[Any]]


class Operations:
    """The agent's hands. State is what runs and the environment the server gave."""

    def __init__(self, settings: AgentSettings, reaper: Reaper, changed: Callable[[], None]) -> None:
        self._settings = settings
        self._reaper = reaper
        self._changed = changed
        self._env: dict[str, str] | None = None
        self._mains = Mains(settings.run, reaper, changed)
        self._terminals = Terminals(reaper)
        self._apps = Apps(settings.run, reaper)
        self._table: dict[str, Operation] = {
            "configure": self._configure,
            "start": self._start,
            "stop": self._stop,
            "log": self._log,
            "exec": self._exec,
            "terminal": self._terminal,
            "app": self._app,
            "read": self._read,
            "write": self._write,
            "dial": self._dial,
            "free_port": self._free_port,
            "fetch_source": self._fetch_source,
            "fetch_model": self._fetch_model,
            "upload_model": self._upload_model,
        }

    async def run(self, channel: Channel, params: Params) -> Any:
        """Run the operation that a channel was opened for.

        Raises:
            RemoteError: There is no such operation, or it failed.
        """
        operation = self._table.get(str(params.get("op")))
        if operation is None:
            raise RemoteError(f"This agent knows no operation {params.get('op')!r}.", "unknown")
        return await operation(channel, params)

    def state(self) -> Params:
        """What the server is told on connecting and on every change."""
        return {"configured": self._env is not None, "processes": self._mains.state()}

    def environment(self, extra: dict[str, str] | None = None) -> dict[str, str]:
        """What a process of the workload finds in its environment."""
        base = {
            "HOME": str(self._settings.home),
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "LANG": "C.UTF-8",
            "USER": "blixt",
            "LOGNAME": "blixt",
            "SHELL": "/bin/bash",
            "PYTHONUNBUFFERED": "1",
        }
        marker = os.environ.get("BLIXT_ALLOCATION")
        if marker:
            base["BLIXT_ALLOCATION"] = marker
        return {**base, **(self._env or {}), **(extra or {})}

    async def _configure(self, channel: Channel, params: Params) -> None:
        self._env = {str(key): str(value) for key, value in params["env"].items()}
        self._changed()

    async def _start(self, channel: Channel, params: Params) -> None:
        command, folders = execs.shell_command(params["command"]), {}
        for variable, path in params.get("folders", {}).items():
            folder = files.resolve(self._settings.home, path)
            folder.mkdir(parents=True, exist_ok=True)
            folders[variable] = str(folder)
        for process in params["processes"]:
            env = self.environment({**process["env"], **folders})
            self._mains.start(str(process["id"]), command, self._cwd(params), env)

    async def _stop(self, channel: Channel, params: Params) -> None:
        await self._mains.stop(float(params["grace_s"]))

    async def _log(self, channel: Channel, params: Params) -> Any:
        return await self._mains.follow(channel, str(params["process"]), int(params["offset"]))

    async def _exec(self, channel: Channel, params: Params) -> Any:
        return await execs.run_exec(
            channel,
            self._reaper,
            execs.shell_command(params["command"]),
            cwd=self._cwd(params),
            env=self.environment(params.get("env")),
            timeout_s=params.get("timeout_s"),
        )

    async def _terminal(self, channel: Channel, params: Params) -> Any:
        return await self._terminals.attach(
            channel,
            str(params.get("session") or ""),
            cols=int(params.get("cols") or 80),
            rows=int(params.get("rows") or 24),
            cwd=self._settings.home,
            env=self.environment(),
        )

    async def _app(self, channel: Channel, params: Params) -> Any:
        return await self._apps.open(str(params["name"]), self._settings.home, self.environment())

    async def _read(self, channel: Channel, params: Params) -> Any:
        return await files.read_file(channel, self._path(params))

    async def _write(self, channel: Channel, params: Params) -> Any:
        mode = params.get("mode")
        return await files.write_file(channel, self._path(params), int(mode, 8) if mode else None)

    async def _dial(self, channel: Channel, params: Params) -> None:
        await files.dial(channel, int(params["port"]))

    async def _free_port(self, channel: Channel, params: Params) -> int:
        return files.free_port()

    async def _fetch_source(self, channel: Channel, params: Params) -> None:
        from blixt.cloud.agent import transfer

        await asyncio.to_thread(transfer.fetch_source, self._api(), self._settings.home, params["blob"])

    async def _fetch_model(self, channel: Channel, params: Params) -> Any:
        from blixt.cloud.agent import transfer

        home = self._settings.home
        return await asyncio.to_thread(
            transfer.fetch_model, self._api(), home, params["name"], params["version"]
        )

    async def _upload_model(self, channel: Channel, params: Params) -> Any:
        from blixt.cloud.agent import transfer

        return await asyncio.to_thread(
            transfer.upload_model,
            self._api(),
            self._path(params),
            params["name"],
            params["id"],
            params["job"],
        )

    def _api(self) -> Any:
        from blixt.cloud.agent.transfer import Api

        env = self._env or {}
        return Api(self._settings.url, env["BLIXT_TOKEN"], env["BLIXT_TEAMSPACE"])

    def _path(self, params: Params) -> Path:
        return files.resolve(self._settings.home, str(params["path"]))

    def _cwd(self, params: Params) -> Path:
        return files.resolve(self._settings.home, str(params.get("cwd") or ""))
