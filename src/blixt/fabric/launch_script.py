"""Ranks that are this program, run again."""

import os
import queue
import subprocess
import sys
import threading
from pathlib import Path

from blixt.fabric.errors import LaunchError
from blixt.fabric.launch import environment_of, guard_environment, interactive
from blixt.fabric.launch_place import Place
from blixt.fabric.launch_watch import Failure, Ranks, say_who_failed
from blixt.fabric.pulse import accuse


def run_ranks(place: Place, command: list[str] | None = None) -> int:
    """Run a program once per rank of this machine, and wait.

    Args:
        place: Which ranks, and where they meet.
        command: The program; this one when left out.

    Returns:
        The exit code for the launcher.
    """
    command = command or _own_command()
    guard, write_end = os.pipe()
    os.set_inheritable(guard, True)
    ranks = _ScriptRanks(place)
    try:
        for local_rank in range(place.processes):
            environment = {**os.environ, **environment_of(place, local_rank), **guard_environment(guard)}
            ranks.add(subprocess.Popen(command, env=environment, pass_fds=[guard]))
        with ranks.forwarding_signals():
            ended = ranks.watch()
        if isinstance(ended, Failure):
            say_who_failed(ended, accuse(place.store, str(ended)))
            return ended.shell_code
        return ended
    finally:
        ranks.stop()
        place.close()
        os.close(guard)
        os.close(write_end)


class _ScriptRanks(Ranks):
    """One subprocess a rank."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ended: queue.Queue[int] = queue.Queue()

    def add(self, process: subprocess.Popen[bytes]) -> None:
        """Watch over one more."""
        index = len(self._processes)
        self._processes.append(process)

        def report() -> None:
            process.wait()
            self._ended.put(index)

        threading.Thread(target=report, name=f"blixt-rank-{index}", daemon=True).start()

    def pid(self, index: int) -> int:
        return self._processes[index].pid

    def code(self, index: int) -> int | None:
        return self._processes[index].poll()

    def next_ended(self, timeout_s: float | None) -> int | None:
        try:
            return self._ended.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def send(self, index: int, number: int) -> None:
        if index < len(self._processes) and self._processes[index].poll() is None:
            self._processes[index].send_signal(number)

    def wait(self, index: int, timeout_s: float) -> bool:
        if index >= len(self._processes):
            return True
        try:
            self._processes[index].wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True


def _own_command() -> list[str]:
    """How this program was started; with the script's full path, because it may have changed folders."""
    arguments = sys.orig_argv[1:]
    if interactive() or not arguments or arguments[-1] == "-":
        raise LaunchError(
            "An interactive session cannot be run once per rank. Put the code into a function and call "
            "fabric.launch(function), which copies this process in a notebook; or put it into a script."
        )
    main = sys.modules["__main__"]
    script = getattr(main, "__file__", None)
    if main.__spec__ is None and script is not None and sys.argv[0] in arguments:
        arguments[arguments.index(sys.argv[0])] = str(Path(script).absolute())
    return [sys.executable, *arguments]
