"""Looking at processes through /proc, for the engine's clean-up."""

import os
from pathlib import Path


def process_start(pid: int) -> int | None:
    """A process's start time in clock ticks since boot, or None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat.rsplit(")", 1)[1].split()[19])


def descendants_marked(variable: str, value: str) -> list[int]:
    """Every process that started with `variable=value` in its environment, which children inherit."""
    wanted = f"{variable}={value}".encode()
    found: list[int] = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            environment = Path(f"/proc/{entry}/environ").read_bytes()
        except OSError:
            continue
        if wanted in environment.split(b"\0"):
            found.append(int(entry))
    return found


def kill(pid: int, signal: int) -> None:
    """Send a signal; a process that is gone already is fine."""
    try:
        os.kill(pid, signal)
    except ProcessLookupError:
        return
