"""The body of a worker process: units in, notes of what was done out."""

import ctypes
import signal
import sys
import traceback
from collections.abc import MutableSequence
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from blixt.data.build.task import BETWEEN, FilesTask, Task
from blixt.data.errors import BuildError, DataError

READY = "ready"
_PR_SET_PDEATHSIG = 1


def work(pipe: Connection, task: Task, places: MutableSequence[int], slot: int) -> None:
    """Serve units from the parent until it closes the pipe.

    `places[slot]` always tells the parent which input the user's function is busy with, so that it can name
    the input of a worker that died or hangs.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent()
    if isinstance(task, FilesTask):
        task = replace(task, worker=slot)

    def place(index: int) -> None:
        places[slot] = index

    try:
        pipe.send(READY)
        while True:
            unit, schema = pipe.recv()
            try:
                outcome: Any = task.run(unit, schema, place)
            except DataError as problem:
                outcome = problem
            except Exception as problem:
                outcome = BuildError(f"unit {unit.number}: {type(problem).__name__}: {problem}")
                outcome.add_note("".join(traceback.format_exception(problem)))
            place(BETWEEN)
            pipe.send(outcome)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _end_with_parent() -> None:
    """Ask the kernel to end this process with the one that started it: a killed build leaves no worker."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
