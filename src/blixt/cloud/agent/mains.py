"""The allocation's main processes: a job's ranks or a replica's server, started once, logged to files.

A process's output goes through a pipe into `run/log/ID.log`; a byte's offset there is its address for ever.
Its exit is written to `run/exit/ID.json` before anybody is told.
"""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blixt.cloud.agent.channel import Channel, RemoteError
from blixt.cloud.agent.protocol import CHUNK_BYTES
from blixt.cloud.agent.reaper import Child, Reaper, SpawnError, shell_exit

PIPE_BYTES = 65536


@dataclass
class Main:
    """One main process."""

    id: str
    log: Path
    child: Child | None = None
    exit_code: int | None = None
    size_bytes: int = 0
    grew: asyncio.Event = field(default_factory=asyncio.Event)

    def state(self) -> dict[str, Any]:
        """What the server is told about it."""
        return {"exit": self.exit_code, "log_bytes": self.size_bytes}


class Mains:
    """Starts, logs and stops the main processes.

    Args:
        run: The allocation's own folder.
        reaper: Starts the processes.
        changed: Called when a process started or ended.
    """

    def __init__(self, run: Path, reaper: Reaper, changed: Callable[[], None]) -> None:
        self._logs = run / "log"
        self._exits = run / "exit"
        self._reaper = reaper
        self._changed = changed
        self._mains: dict[str, Main] = {}
        self._watchers: set[asyncio.Task[None]] = set()
        for folder in (self._logs, self._exits):
            folder.mkdir(parents=True, exist_ok=True)

    def state(self) -> dict[str, Any]:
        """The state of every main process by its id."""
        return {main.id: main.state() for main in self._mains.values()}

    def start(self, id: str, command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> None:
        """Start a process under `id`; a second start of the same id does nothing.

        A command that cannot be started counts as an exit with the shell's code, and its log says why.
        """
        if id in self._mains:
            return
        main = Main(id, self._logs / f"{id}.log")
        self._mains[id] = main
        log = os.open(main.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        read_end, write_end = os.pipe()
        os.set_blocking(read_end, False)
        try:
            main.child = self._reaper.spawn(command, cwd=cwd, env=env, stdout=write_end, stderr=write_end)
        except SpawnError as error:
            os.write(log, f"blixt: {error}\n".encode())
            os.close(read_end)
            os.close(log)
            self._finish(main, error.exit_code)
            return
        finally:
            os.close(write_end)
        loop = asyncio.get_running_loop()
        loop.add_reader(read_end, self._pump, main, read_end, log)
        watcher = loop.create_task(self._watch(main, main.child, read_end, log))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)
        self._changed()

    async def stop(self, grace_s: float) -> None:
        """End every main process: SIGTERM, grace, SIGKILL, each to its whole group."""
        running = [main.child for main in self._mains.values() if main.child and main.exit_code is None]
        await asyncio.gather(*(child.stop(grace_s) for child in running))

    async def follow(self, channel: Channel, id: str, offset: int) -> dict[str, int]:
        """Send a process's log from `offset` on, until it has ended and everything was sent.

        Raises:
            RemoteError: There is no such process here.
        """
        main = self._mains.get(id)
        if main is None:
            raise RemoteError(f"No process {id} was started here.", "not_found")
        with open(main.log, "rb") as log:
            log.seek(offset)
            while True:
                main.grew.clear()
                ended = main.exit_code is not None
                while piece := log.read(CHUNK_BYTES):
                    await channel.write(piece)
                if ended:
                    return {"size": log.tell()}
                await main.grew.wait()

    def _pump(self, main: Main, read_end: int, log: int) -> None:
        """Move what is in the pipe to the log file; at the pipe's end stop looking."""
        if _drain(read_end, log):
            asyncio.get_running_loop().remove_reader(read_end)
        main.grew.set()

    async def _watch(self, main: Main, child: Child, read_end: int, log: int) -> None:
        code = await child.wait()
        asyncio.get_running_loop().remove_reader(read_end)
        _drain(read_end, log)
        child.signal_group(signal.SIGKILL)  # what a rank leaves behind in its group ends with it
        os.close(read_end)
        os.close(log)
        self._finish(main, shell_exit(code))

    def _finish(self, main: Main, code: int) -> None:
        main.size_bytes = main.log.stat().st_size
        record = self._exits / f"{main.id}.json"
        part = record.with_suffix(".part")
        part.write_text(json.dumps({"exit": code, "log_bytes": main.size_bytes}))
        part.rename(record)
        main.exit_code = code
        main.grew.set()
        self._changed()


def _drain(read_end: int, log: int) -> bool:
    """Copy what the pipe holds now; True when its last writer is gone."""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(read_end, PIPE_BYTES):
            os.write(log, piece)
        return True
    return False
