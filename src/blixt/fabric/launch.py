"""Make the processes that train together, and never leave one behind.

A script is run again once per rank, with torchrun's variables; the first process only watches over the
others and ends with their exit code. A function is called in spawned processes. In both cases the
watching process holds the store where the ranks meet, so that no port has to be guessed, and a pipe whose
end tells the ranks that it is gone.
"""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import torch
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage] - public, but not listed
from torch.multiprocessing.spawn import (
    ProcessExitedException,
    ProcessRaisedException,
    start_processes,  # pyright: ignore[reportUnknownVariableType] - torch leaves it untyped
)

from blixt.fabric.errors import LaunchError

_GUARD_VARIABLE = "BLIXT_LAUNCHER_FD"
_GRACE_S = 10.0


def launch_script(world_size: int) -> NoReturn:
    """Run this program once per rank, wait, and exit as they did."""
    command = _own_command()
    store = _meeting_point(world_size)
    guard, write_end = os.pipe()
    os.set_inheritable(guard, True)
    ranks: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(world_size):
            environment = {**os.environ, **rank_environment(rank, world_size, store.port)}
            environment[_GUARD_VARIABLE] = str(guard)
            ranks.append(subprocess.Popen(command, env=environment, pass_fds=[guard]))
        code = _watch(ranks)
    finally:
        _stop(ranks)
        os.close(guard)
        os.close(write_end)
    raise SystemExit(code)


def launch_function(world_size: int, entry: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Call `entry(*args)` in `world_size` new processes; returns what rank 0 returned.

    `entry` and `args` must be picklable. When one process fails, the others are stopped and its traceback
    is part of the error.
    """
    store = _meeting_point(world_size)
    with TemporaryDirectory() as folder:
        answer = Path(folder) / "rank0.pt"
        try:
            start_processes(
                _function_rank,
                args=(world_size, store.port, str(answer), entry, args),
                nprocs=world_size,
                start_method="spawn",
            )
        except ProcessRaisedException as error:
            first = _first_failure(Path(folder)) or str(error)
            raise LaunchError(f"A rank failed and the others were stopped.\n\n{first}") from error
        except ProcessExitedException as error:
            raise LaunchError(f"A rank died and the others were stopped: {error}.") from error
        return torch.load(answer, weights_only=False)


def rank_environment(rank: int, world_size: int, port: int) -> dict[str, str]:
    """torchrun's variables for one rank of this machine, whose launcher holds the store."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(world_size),
        "NODE_RANK": "0",
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }


def share_cores(processes: int) -> None:
    """Let each of several processes of this machine use its part of the cores, unless OMP_NUM_THREADS says.

    Otherwise all of them would use all cores, and spend most of the time waiting for each other.
    """
    if processes > 1 and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))


def die_with_launcher() -> None:
    """End this process when the one that launched it is gone, however it went."""
    descriptor = os.environ.pop(_GUARD_VARIABLE, None)
    if descriptor is None:
        return

    def wait_for_end() -> None:
        os.read(int(descriptor), 1)
        os._exit(1)

    threading.Thread(target=wait_for_end, name="blixt-launcher-guard", daemon=True).start()


def _function_rank(
    rank: int, world_size: int, port: int, answer: str, entry: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    os.environ.update(rank_environment(rank, world_size, port))
    try:
        result = entry(*args)
    except BaseException:
        report = f"Rank {rank} failed:\n{traceback.format_exc()}"
        Path(answer).with_name(f"{time.monotonic_ns():020}-{rank}.failed").write_text(report)
        raise
    if rank == 0:
        torch.save(result, answer)


def _first_failure(folder: Path) -> str:
    """The earliest report of a rank: the others' come of losing it. "" when there is none."""
    reports = sorted(folder.glob("*.failed"))
    return reports[0].read_text() if reports else ""


def _meeting_point(world_size: int) -> TCPStore:
    return TCPStore("127.0.0.1", 0, world_size, is_master=True, wait_for_workers=False)


def _own_command() -> list[str]:
    arguments = sys.orig_argv[1:]
    if hasattr(sys, "ps1") or not arguments or arguments[-1] == "-":
        raise LaunchError(
            "An interactive session cannot be run once per rank. Put the code into a function and call "
            "fabric.launch(function), or into a script."
        )
    return [sys.executable, *arguments]


def _watch(ranks: list[subprocess.Popen[bytes]]) -> int:
    """Wait for all; at the first failure say which rank it was and return its code."""
    ended: queue.Queue[int] = queue.Queue()

    def report(rank: int) -> None:
        ranks[rank].wait()
        ended.put(rank)

    for rank in range(len(ranks)):
        threading.Thread(target=report, args=(rank,), name=f"blixt-rank-{rank}", daemon=True).start()
    with _forwarded_signals(ranks):
        codes = [0]
        for _ in ranks:
            rank = ended.get()
            codes.append(_shell_code(ranks[rank].returncode))
            if codes[-1] not in (0, 128 + signal.SIGTERM):
                _say_who_failed(rank, ranks[rank])
                return codes[-1]
    return max(codes)


def _say_who_failed(rank: int, process: subprocess.Popen[bytes]) -> None:
    code = process.returncode
    how = f"exited with code {code}" if code > 0 else f"was killed by {signal.Signals(-code).name}"
    print(
        f"blixt: rank {rank} (process {process.pid}) {how}; the other ranks were stopped. "
        "Its own message is above.",
        file=sys.stderr,
        flush=True,
    )


def _shell_code(code: int) -> int:
    return code if code >= 0 else 128 - code


def _stop(ranks: list[subprocess.Popen[bytes]]) -> None:
    for process in ranks:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + _GRACE_S
    for process in ranks:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class _forwarded_signals:
    """While inside, SIGTERM and SIGUSR1 to this process go to every rank."""

    def __init__(self, ranks: list[subprocess.Popen[bytes]]) -> None:
        self._ranks = ranks
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGUSR1):
                self._previous[number] = signal.signal(number, self._forward)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _forward(self, number: int, _frame: object) -> None:
        for process in self._ranks:
            if process.poll() is None:
                process.send_signal(number)
