"""The supervisor: what `blixt up` runs. A small parent that keeps one server alive.

It starts the server, starts it again after a crash on the same port (agents and workloads know that port),
passes signals on, and ends when the server was asked to stop. Workloads are nobody's children here: they live
through the crash of the server, and of the supervisor.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from blixt.cloud.errors import CloudError
from blixt.cloud.exits import ANOTHER_SERVER, BAD_DATA_DIR, FAILED, FINAL
from blixt.cloud.json_object import json_object
from blixt.cloud.settings import Settings

READY_TIMEOUT_S = 60.0
# A farewell to every agent, the last of their logs and the end of their sandboxes, on a busy machine.
STOP_TIMEOUT_S = 120.0
FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 10.0
HEALTHY_S = 30.0
POLL_S = 0.05
LOG_TAIL_BYTES = 2000


@dataclass(frozen=True)
class ServerStatus:
    """What is known of the server on one data folder.

    Attributes:
        running: Whether its process lives.
        url: Where it answers, when it runs.
        pid: The server's process.
        supervisor_pid: The supervisor's, None when the server runs without one.
        version: The server's version of blixt.
        data_dir: The data folder.
        restarts: How often the supervisor started it again after a crash.
    """

    running: bool
    url: str | None
    pid: int | None
    supervisor_pid: int | None
    version: str | None
    data_dir: Path
    restarts: int = 0


class SupervisorError(Exception):
    """The server could not be started; one sentence says why, `exit_code` tells scripts."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def up(
    data_dir: Path | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8480,
    detach: bool = False,
    on_ready: Callable[[ServerStatus], None] | None = None,
) -> int:
    """Run the cloud until it is told to stop (Ctrl-C, SIGTERM, `down`), or with `detach` only start it.

    Args:
        data_dir: The data folder; by default BLIXT_DATA_DIR, else ~/.blixt.
        host: Address to listen on.
        port: Port to listen on; 0 chooses one and keeps it over crashes.
        detach: Return as soon as it is ready, leaving it running; its log is `<data_dir>/server.log`.
        on_ready: Called once with where the server answers.

    Returns:
        The exit code, 0 when all is well.

    Raises:
        SupervisorError: The port is taken, the data folder is not writable or in use, or the start failed.
    """
    settings = _settings(data_dir, host, port)
    if detach:
        found = _detach(settings)
        if on_ready is not None:
            on_ready(found)
        return 0
    with _lock(settings.data_dir):
        return _Supervisor(settings, on_ready).run()


def down(data_dir: Path | None = None, *, timeout_s: float = STOP_TIMEOUT_S) -> bool:
    """Stop the server, its supervisor and everything they run; True when there was something to stop.

    Raises:
        SupervisorError: Something did not end in time.
    """
    settings = _settings(data_dir, None, None)
    found = status(settings.data_dir)
    pid = found.supervisor_pid or found.pid
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        _wait_gone(settings.data_dir, timeout_s)
    return _release_leftovers(settings.data_dir) or pid is not None


def status(data_dir: Path | None = None) -> ServerStatus:
    """Say whether a server runs on a data folder, and where."""
    folder = _settings(data_dir, None, None).data_dir
    server = _read(folder / "server.json") if _is_locked(folder / "server.lock") else {}
    supervisor = _read(folder / "supervisor.json") if _is_locked(folder / "supervisor.lock") else {}
    return ServerStatus(
        running=bool(server),
        url=server.get("url"),
        pid=server.get("pid"),
        supervisor_pid=supervisor.get("pid"),
        version=server.get("version"),
        data_dir=folder,
        restarts=supervisor.get("restarts", 0),
    )


class _Supervisor:
    """Keeps one server running."""

    def __init__(self, settings: Settings, on_ready: Callable[[ServerStatus], None] | None) -> None:
        self._settings = settings
        self._on_ready = on_ready
        self._server: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._restarts = 0
        self._was_ready = False

    def run(self) -> int:
        """Until the server ends because it was asked to, or cannot run at all."""
        old = {number: signal.signal(number, self._forward) for number in (signal.SIGTERM, signal.SIGINT)}
        delay = FIRST_DELAY_S
        try:
            while True:
                began = time.monotonic()
                self._write_state()
                code = self._run_once()
                if self._stopping or code == 0:
                    return 0 if code in (0, -signal.SIGTERM) else code
                if code in FINAL or not self._was_ready:
                    return code  # it never answered: that is told, not repeated
                if time.monotonic() - began > HEALTHY_S:
                    delay = FIRST_DELAY_S
                print(f"blixt: the server ended ({_describe(code)}); starting it again", file=sys.stderr)
                self._wait(delay)
                delay = min(delay * 2, LONGEST_DELAY_S)
                self._restarts += 1
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)
            (self._settings.data_dir / "supervisor.json").unlink(missing_ok=True)

    def _run_once(self) -> int:
        """One life of the server; returns its exit code."""
        ready, ready_write = os.pipe()
        command = [sys.executable, "-m", "blixt.cloud.server", "--data-dir", str(self._settings.data_dir)]
        command += ["--host", self._settings.host, "--port", str(self._settings.port)]
        command += ["--ready-fd", str(ready_write)]
        try:
            # A session of its own: Ctrl-C reaches the supervisor alone, which then stops it in good order.
            self._server = subprocess.Popen(command, pass_fds=(ready_write,), start_new_session=True)
        finally:
            os.close(ready_write)
        if self._stopping:  # the signal came while the server was being started
            self._server.terminate()
        with os.fdopen(ready, "rb") as pipe:
            line = pipe.readline()
        if line:
            self._became_ready(json.loads(line))
        return self._server.wait()

    def _became_ready(self, server: dict[str, str]) -> None:
        port = int(server["url"].rsplit(":", 1)[1])
        self._settings = replace(self._settings, port=port)
        if not self._was_ready:
            self._was_ready = True
            if self._on_ready is not None:
                self._on_ready(status(self._settings.data_dir))

    def _forward(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        if self._server is not None and self._server.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._server.send_signal(signal.SIGTERM)

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < deadline:
            time.sleep(POLL_S)

    def _write_state(self) -> None:
        file = self._settings.data_dir / "supervisor.json"
        part = file.with_suffix(".part")
        part.write_text(json.dumps({"pid": os.getpid(), "restarts": self._restarts}))
        part.rename(file)


def _detach(settings: Settings) -> ServerStatus:
    """Start a supervisor of its own in the background and wait until its server answers."""
    command = [sys.executable, "-m", "blixt.cloud.supervisor", str(settings.data_dir)]
    command += [settings.host, str(settings.port)]
    if status(settings.data_dir).running:
        raise SupervisorError(_in_use(settings.data_dir), ANOTHER_SERVER)
    log = settings.data_dir / "server.log"
    begin = log.stat().st_size if log.exists() else 0
    with open(log, "ab") as output:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        found = status(settings.data_dir)
        if found.running and found.supervisor_pid == child.pid:
            child.returncode = 0  # it is no longer ours: do not warn when this process ends first
            return found
        code = child.poll()
        if code is not None:
            raise SupervisorError(_last_words(log, begin), code)
        time.sleep(POLL_S)
    child.terminate()
    raise SupervisorError(f"The server was not ready after {READY_TIMEOUT_S:.0f} s; see {log}.", FAILED)


def _settings(data_dir: Path | None, host: str | None, port: int | None) -> Settings:
    try:
        settings = Settings.resolve(data_dir, host, port)
        settings.make_data_dir()
    except CloudError as error:
        raise SupervisorError(f"{error.message} {error.hint}".strip(), BAD_DATA_DIR) from error
    return settings


@contextlib.contextmanager
def _lock(folder: Path) -> Generator[None]:
    """Be the only supervisor of a data folder."""
    with (folder / "supervisor.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SupervisorError(_in_use(folder), ANOTHER_SERVER) from error
        yield


def _is_locked(file: Path) -> bool:
    """Whether a living process holds the lock."""
    if not file.exists():
        return False
    with file.open("r") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _wait_gone(folder: Path, timeout_s: float) -> None:
    """Wait until the kernel says that neither server nor supervisor lives."""
    deadline = time.monotonic() + timeout_s
    while _is_locked(folder / "server.lock") or _is_locked(folder / "supervisor.lock"):
        if time.monotonic() > deadline:
            raise SupervisorError(f"The server on {folder} did not stop within {timeout_s:.0f} s.", FAILED)
        time.sleep(POLL_S)


def _release_leftovers(folder: Path) -> bool:
    """Release what outlived a killed server that nobody started again."""
    root = folder / "engine" / "local"
    if not root.is_dir() or not any(entry.is_dir() for entry in root.iterdir()):
        return False
    from blixt.cloud.engines import LocalEngine

    engine = LocalEngine(folder, isolation="process")
    machines = engine.list()
    for machine in machines:
        engine.release(machine.token)
    engine.close()
    return bool(machines)


def _in_use(folder: Path) -> str:
    return (
        f"Another server is running on the data folder {folder}. "
        "Stop it with `blixt down`, or choose another folder with --data-dir."
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        return json_object(file.read_bytes()) or {}
    except OSError:
        return {}


def _last_words(log: Path, begin: int) -> str:
    """The sentence the server ended with."""
    with open(log, "rb") as file:
        file.seek(begin)
        lines = file.read()[-LOG_TAIL_BYTES:].decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("blixt: ") if lines else f"The server ended without a word; see {log}."


def _describe(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def _main() -> int:
    folder, host, port = sys.argv[1:4]
    try:
        return up(Path(folder), host=host, port=int(port))
    except SupervisorError as error:
        print(f"blixt: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    raise SystemExit(_main())
