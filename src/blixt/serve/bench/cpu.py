"""CPU time of a process and all below it, from /proc; the figure that a busy machine disturbs least."""

import os
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def tree_cpu_s(pid: int) -> float | None:
    """User and system seconds that a process, its children and those of them that ended have used.

    None where there is no /proc, or no such process.
    """
    stats = _stats()
    if pid not in stats:
        return None
    total, waiting = 0.0, [pid]
    while waiting:
        parent = waiting.pop()
        total += stats[parent][1]
        waiting += [child for child, (its_parent, _) in stats.items() if its_parent == parent]
    return total


def _stats() -> dict[int, tuple[int, float]]:
    """Every process: its parent, and the seconds used by it and by its children that were waited for."""
    found: dict[int, tuple[int, float]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "stat").read_text()
        except OSError:
            continue
        fields = text.rpartition(")")[2].split()
        used = sum(int(fields[number]) for number in (11, 12, 13, 14))
        found[int(folder.name)] = (int(fields[1]), used / _TICKS_PER_S)
    return found
