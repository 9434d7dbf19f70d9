"""Who a process is, so that another one on the same machine can tell whether it still lives."""

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, named so that neither a restart of the machine nor a reused number is mistaken for it."""

    machine: str
    pid: int
    started: str

    @classmethod
    def current(cls) -> Self:
        """Return this process."""
        return cls(_machine(), os.getpid(), _started(os.getpid()) or "")

    @property
    def name(self) -> str:
        """A name that is good in a file's name."""
        return f"{self.machine}-{self.pid}-{self.started}"

    def is_dead(self) -> bool | None:
        """Return whether it has ended; None when it ran on another machine, where nobody here can see it."""
        if self.machine != _machine():
            return None
        return _started(self.pid) != self.started

    def to_json(self) -> dict[str, Any]:
        """Return it as notes store it."""
        return {"machine": self.machine, "pid": self.pid, "started": self.started}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """Read it from a note."""
        return cls(stored["machine"], stored["pid"], stored["started"])


def is_stale(note: dict[str, Any], after_s: float) -> bool:
    """Return whether the process that wrote a note (with `owner` and `at`) is gone.

    On this machine that is known; of another machine's process it is assumed when its note is old.
    """
    dead = Owner.from_json(note["owner"]).is_dead()
    return time.time() - note["at"] > after_s if dead is None else dead


def _machine() -> str:
    """Name this machine (this boot, this container): process numbers mean the same only within it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
        container = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return socket.gethostname()
    return f"{socket.gethostname()}-{boot}-{container}"


def _started(pid: int) -> str | None:
    """Return when a process started, in ticks since the boot, or None when it is not there (or a zombie)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None if Path("/proc/self/stat").exists() else str(_exists(pid))
    return None if fields[0] in "ZX" else fields[19]


def _exists(pid: int) -> bool:
    """Where there is no /proc a process can be asked by a signal that does nothing."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
