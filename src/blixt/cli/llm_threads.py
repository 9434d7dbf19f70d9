"""How many threads torch shall use, decided before it is imported.

Left alone, OpenMP starts a thread for every core of the machine, whatever part of it this process may use,
and threads without work spin: beside other work each step then waits for threads that do not run.
"""

import os
from collections.abc import MutableMapping
from pathlib import Path

CPUS = Path("/sys/devices/system/cpu")
CGROUP = Path("/sys/fs/cgroup/cpu.max")


def set_threads(
    share: int = 1, environment: MutableMapping[str, str] | None = None, *, cores: int | None = None
) -> None:
    """Tell OpenMP, for this process and those it starts; what is said from outside stays.

    Args:
        share: How many processes divide the cores.
        environment: Where to say it; the process's own by default.
        cores: How many there are; counted by default.
    """
    environment = os.environ if environment is None else environment
    count = usable_cores() if cores is None else cores
    environment.setdefault("OMP_NUM_THREADS", str(max(1, count // max(1, share))))
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    environment.setdefault("KMP_BLOCKTIME", "0")  # the same to the OpenMP of LLVM and Intel


def usable_cores(cpus: Path = CPUS, cgroup: Path = CGROUP) -> int:
    """Physical cores that this process may use: its affinity, each pair of siblings once, and its quota.

    Args:
        cpus: The kernel's folder of processors.
        cgroup: The file with the quota.
    """
    has_affinity = hasattr(os, "sched_getaffinity")
    allowed = os.sched_getaffinity(0) if has_affinity else range(os.cpu_count() or 1)
    physical = len({_core(cpus, number) for number in allowed})
    try:
        quota, period = cgroup.read_text().split()
        granted = int(quota) / int(period)
    except (OSError, ValueError):  # no cgroup, or no quota ("max")
        return max(1, physical)
    return max(1, min(physical, int(granted)))


def _core(cpus: Path, number: int) -> str:
    """What tells a processor's core from others: its siblings share it."""
    topology = cpus / f"cpu{number}" / "topology"
    try:
        return (topology / "thread_siblings_list").read_text().strip()
    except OSError:
        return str(number)
