"""Starting children and collecting every exit, also of orphans: the agent is the init of its sandbox."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
NOT_FOUND_EXIT = 127
NOT_EXECUTABLE_EXIT = 126


class SpawnError(Exception):
    """A command could not be started; `exit_code` is what a shell would have said."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Child:
    """A process the agent started, leader of its own session and process group."""

    def __init__(self, process: "subprocess.Popen[bytes]", exited: "asyncio.Future[int]") -> None:
        self._process = process
        self.exited = exited

    @property
    def pid(self) -> int:
        """The process's id inside the sandbox."""
        return self._process.pid

    def signal_group(self, number: signal.Signals) -> None:
        """Signal the child and whatever it started in its group; what is gone already is fine."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def wait(self) -> int:
        """The exit code; whoever waits may be cancelled without harm to the others."""
        return await asyncio.shield(self.exited)

    async def stop(self, grace_s: float) -> int:
        """SIGTERM to the group, then SIGKILL when the grace is over; returns the exit code."""
        if not self.exited.done():
            self.signal_group(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await self.wait()
        self.signal_group(signal.SIGKILL)
        return await self.wait()

    def mark_exited(self, code: int) -> None:
        """Record the exit code that the reaper collected."""
        self._process.returncode = code
        if not self.exited.done():
            self.exited.set_result(code)


class Reaper:
    """Owns SIGCHLD. Start, spawn and reap all run on the event loop, so no exit can slip in between."""

    def __init__(self) -> None:
        self._children: dict[int, Child] = {}

    def start(self) -> None:
        """Begin collecting; becomes the parent of orphans where it is not process 1 already."""
        if os.getpid() != 1:
            _become_subreaper()
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)

    def spawn(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdin: int = subprocess.DEVNULL,
        stdout: int,
        stderr: int,
    ) -> Child:
        """Start a command.

        Raises:
            SpawnError: There is no such command, or it is not executable, or no such folder.
        """
        try:
            process = subprocess.Popen(
                list(command),
                cwd=cwd,
                env=dict(env),
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise SpawnError(_not_found(command[0], cwd), NOT_FOUND_EXIT) from error
        except OSError as error:
            raise SpawnError(f"{command[0]}: {error.strerror}", NOT_EXECUTABLE_EXIT) from error
        child = Child(process, asyncio.get_running_loop().create_future())
        self._children[process.pid] = child
        return child

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self._children.pop(pid, None)
            if child is not None:
                child.mark_exited(os.waitstatus_to_exitcode(status))


def shell_exit(code: int) -> int:
    """An exit code as a shell says it: 128 + the signal that ended the process."""
    return 128 - code if code < 0 else code


def _not_found(program: str, cwd: Path) -> str:
    if not cwd.is_dir():
        return f"{cwd}: no such folder"
    return f"{program}: command not found"


def _become_subreaper() -> None:
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
