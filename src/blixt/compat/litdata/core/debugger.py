"""`breakpoint()` that works in worker processes, whose standard input is closed."""

import fcntl
import pdb
import sys
from types import FrameType, TracebackType
from typing import Any


class WorkerPdb(pdb.Pdb):
    """Python's debugger on the terminal itself; of several workers that stop, one speaks at a time."""

    def __init__(self) -> None:
        try:
            self._terminal: Any = open("/dev/tty", "r+b", buffering=0)  # noqa: SIM115  it lives as long as this
            reading, writing = open("/dev/tty"), open("/dev/tty", "w")  # noqa: SIM115
        except OSError:
            self._terminal, reading, writing = None, sys.stdin, sys.stdout
        super().__init__(stdin=reading, stdout=writing, nosigint=True)

    def interaction(self, frame: FrameType | None, traceback: TracebackType | None) -> None:
        """Let the user look around, when no other worker's user does."""
        if self._terminal is not None:
            fcntl.flock(self._terminal, fcntl.LOCK_EX)
        try:
            super().interaction(frame, traceback)
        finally:
            if self._terminal is not None:
                fcntl.flock(self._terminal, fcntl.LOCK_UN)


def breakpoint() -> None:
    """Stop here and open the debugger."""
    WorkerPdb().set_trace(sys._getframe().f_back)  # pyright: ignore[reportPrivateUsage]
