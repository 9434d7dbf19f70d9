"""Ranks that call a function in new processes."""

import gc
import os
import pickle
import signal
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.multiprocessing as torch_multiprocessing

from blixt.fabric.errors import ConfigError, LaunchError
from blixt.fabric.launch import FORKED_VARIABLE, die_with_launcher, environment_of
from blixt.fabric.launch_place import Place
from blixt.fabric.launch_watch import LEFT_ON_REQUEST, Failure, Ranks
from blixt.fabric.pulse import accuse, explain

_METHODS = ("spawn", "fork", "forkserver")
_ANSWER = "rank0.pt"


@dataclass(frozen=True)
class _Call:
    """What a rank needs to know besides its number."""

    environments: list[dict[str, str]]
    folder: str
    forked: bool
    entry: Callable[..., Any]
    args: tuple[Any, ...]


def call_in_ranks(place: Place, entry: Callable[..., Any], args: tuple[Any, ...], start_method: str) -> Any:
    """Call `entry(*args)` in every rank of this machine; see `launch_function`."""
    _check(start_method)
    context: Any = torch_multiprocessing.get_context(start_method)
    environments = [environment_of(place, local_rank) for local_rank in range(place.processes)]
    with TemporaryDirectory(prefix="blixt-launch-") as folder:
        call = _Call(environments, folder, start_method == "fork", entry, args)
        reading, writing = context.Pipe(duplex=False)
        ranks = _FunctionRanks(place)
        try:
            with _copies_collect_nothing(start_method):
                for local_rank in range(place.processes):
                    # A forked rank must close its copy of the writing end, or the pipe would never end.
                    own_end = writing if start_method == "fork" else None
                    given = (local_rank, call, reading, own_end)
                    ranks.start(context.Process(target=_run_rank, args=given, name=f"blixt-{local_rank}"))
            with ranks.forwarding_signals():
                ended = ranks.watch()
            accused = accuse(place.store, str(ended)) if isinstance(ended, Failure) else None
        finally:
            ranks.stop()
            place.close()
            reading.close()
            writing.close()
        if isinstance(ended, Failure):
            _raise(ended, Path(folder), accused)
        if ended == LEFT_ON_REQUEST:
            raise SystemExit(LEFT_ON_REQUEST)
        answer = Path(folder) / _ANSWER
        return torch.load(answer, weights_only=False) if answer.exists() else None


class _FunctionRanks(Ranks):
    """One multiprocessing process a rank."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._processes: list[Any] = []
        self._ends: list[int] = []
        self._told: set[int] = set()

    def start(self, process: Any) -> None:
        """Start one more and watch over it."""
        process.start()
        self._processes.append(process)
        self._ends.append(_end_of(process))

    def stop(self) -> None:
        super().stop()
        for process, end in zip(self._processes, self._ends, strict=True):
            if end != process.sentinel:
                os.close(end)
        self._ends.clear()

    def pid(self, index: int) -> int:
        return self._processes[index].pid

    def code(self, index: int) -> int | None:
        return self._processes[index].exitcode

    def next_ended(self, timeout_s: float | None) -> int | None:
        waiting = [index for index in range(len(self._ends)) if index not in self._told]
        ended = wait([self._ends[index] for index in waiting], timeout_s) if waiting else []
        if not ended:
            return None
        index = next(index for index in waiting if self._ends[index] == ended[0])
        self._processes[index].join()
        self._told.add(index)
        return index

    def send(self, index: int, number: int) -> None:
        if index < len(self._processes) and self._processes[index].exitcode is None:
            os.kill(self._processes[index].pid, number)

    def wait(self, index: int, timeout_s: float) -> bool:
        if index >= len(self._processes):
            return True
        wait([self._ends[index]], timeout_s)
        return self._processes[index].exitcode is not None


def _end_of(process: Any) -> int:
    """What can be waited for until `process` has ended.

    Its sentinel is a pipe that processes which it makes have too: a loader's workers, left behind by a rank
    that was killed, would hold it open for seconds.
    """
    try:
        return os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # not Linux, or no child of this process
        return process.sentinel


def _run_rank(local_rank: int, call: _Call, guard: Connection, writing: Connection | None) -> None:
    if writing is not None:
        writing.close()
    if call.forked:
        _forget_the_parent()
    os.environ.update(call.environments[local_rank])
    die_with_launcher(guard)
    try:
        result = call.entry(*call.args)
        if os.environ["RANK"] == "0":
            torch.save(result, Path(call.folder) / _ANSWER)
    except SystemExit as left:
        raise left
    except BaseException as error:
        _report(Path(call.folder), error)
        # The process ends here: what would clean up at exit may wait for ranks that are gone.
        raise SystemExit(1) from None


@contextmanager
def _copies_collect_nothing(start_method: str) -> Generator[None]:
    """Keep forked processes from destroying what they have only copies of.

    A store that the parent's garbage holds would, when collected in the copy, wait for a thread that only
    the parent has.
    """
    if start_method != "fork":
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _forget_the_parent() -> None:
    """Undo what a forked process must not have inherited: handlers, threads, one stream of random numbers."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ[FORKED_VARIABLE] = "1"
    torch.set_num_threads(1)


def _report(folder: Path, error: BaseException) -> None:
    rank = os.environ["RANK"]
    text = f"Rank {rank} failed:\n{''.join(traceback.format_exception(error))}"
    said = explain(error)
    name = f"{time.monotonic_ns():020}-{rank}"
    partial = folder / f"{name}.partial"
    try:
        kept = pickle.dumps(error)
        pickle.loads(kept)
    except Exception:
        kept = b""
    partial.write_bytes(pickle.dumps((f"{text}\n{said}" if said else text, kept)))
    partial.rename(folder / f"{name}.failed")


def _raise(failure: Failure, folder: Path, accused: str | None) -> None:
    """Raise what the first rank that failed has said; the others failed because they lost it."""
    reports = sorted(folder.glob("*.failed"))
    addition = f"\n\n{accused}" if accused else ""
    if failure.code < 0 or not reports:
        raise LaunchError(f"A rank died and the others were stopped: {failure}.{addition}")
    text, kept = pickle.loads(reports[0].read_bytes())
    cause = pickle.loads(kept) if kept else None
    raise LaunchError(f"A rank failed and the others were stopped.\n\n{text}{addition}") from cause


def _check(start_method: str) -> None:
    if start_method not in _METHODS:
        reason = "there is no such way to start a process"
        raise ConfigError("launch_function(start_method)", start_method, reason, f"Use one of {_METHODS}")
    if start_method == "fork" and torch.cuda.is_initialized():
        raise ConfigError(
            "launch_function(start_method)",
            start_method,
            "this process has used CUDA already, and its copies could not",
            "Restart the kernel and launch before anything touches the GPU, or put the function into a "
            "module and use 'spawn'",
        )
