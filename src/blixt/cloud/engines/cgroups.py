"""Limits of cpu, memory and processes by control groups: v1 or v2, whichever this machine lets us write.

Both back ends speak plain files below a root folder, so tests can point them at a folder of their own.
"""

import errno
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

CPU_PERIOD_US = 100_000
MAX_PROCESSES = 4096
REMOVE_TIMEOUT_S = 5.0
V1_CONTROLLERS = ("cpu", "memory", "pids")


@dataclass(frozen=True)
class Limits:
    """What one allocation may use."""

    cpus: float
    memory_bytes: int
    processes: int = MAX_PROCESSES


class Cgroups(Protocol):
    """One group per allocation below one folder of ours."""

    version: str

    def create(self, name: str, limits: Limits) -> list[Path]:
        """Make the group and return the files a process writes its pid to."""
        ...

    def pids(self, name: str) -> list[int]:
        """The processes in the group."""
        ...

    def names(self) -> list[str]:
        """The groups that exist."""
        ...

    def remove(self, name: str) -> None:
        """Kill what is left in the group and remove it; an absent group is no error."""
        ...

    def close(self) -> None:
        """Remove our own folder when nothing is left in it."""
        ...


class CgroupsV1:
    """One hierarchy per controller, each with the same folder in it."""

    version = "v1"

    def __init__(self, parents: dict[str, Path], folder: str) -> None:
        self._roots = {controller: parent / folder for controller, parent in parents.items()}

    def create(self, name: str, limits: Limits) -> list[Path]:
        """Make one folder per controller and write the limits that it has files for."""
        wanted = {
            "cpu": {"cpu.cfs_period_us": CPU_PERIOD_US, "cpu.cfs_quota_us": int(limits.cpus * CPU_PERIOD_US)},
            "memory": {"memory.limit_in_bytes": limits.memory_bytes},
            "pids": {"pids.max": limits.processes},
        }
        attach: list[Path] = []
        for controller, root in self._roots.items():
            group = root / name
            group.mkdir(parents=True, exist_ok=True)
            for file, value in wanted[controller].items():
                (group / file).write_text(str(value))
            attach.append(group / "cgroup.procs")
        return attach

    def pids(self, name: str) -> list[int]:
        """The processes in any of the hierarchies."""
        return sorted({pid for root in self._roots.values() for pid in _read_pids(root / name)})

    def names(self) -> list[str]:
        """The groups below our folder in any hierarchy."""
        return sorted({name for root in self._roots.values() for name in _subfolders(root)})

    def remove(self, name: str) -> None:
        """Kill, then remove the group from every hierarchy."""
        _kill_until_empty(lambda: self.pids(name))
        for root in self._roots.values():
            _rmdir(root / name)

    def close(self) -> None:
        """Remove our folder from every hierarchy."""
        for root in self._roots.values():
            _rmdir(root)


class CgroupsV2:
    """The unified hierarchy."""

    version = "v2"

    def __init__(self, parent: Path, folder: str) -> None:
        self._root = parent / folder

    def create(self, name: str, limits: Limits) -> list[Path]:
        """Make the group and write its limits."""
        group = self._root / name
        group.mkdir(parents=True, exist_ok=True)
        (self._root / "cgroup.subtree_control").write_text("+cpu +memory +pids")
        (group / "cpu.max").write_text(f"{int(limits.cpus * CPU_PERIOD_US)} {CPU_PERIOD_US}")
        (group / "memory.max").write_text(str(limits.memory_bytes))
        (group / "pids.max").write_text(str(limits.processes))
        return [group / "cgroup.procs"]

    def pids(self, name: str) -> list[int]:
        """The processes in the group."""
        return _read_pids(self._root / name)

    def names(self) -> list[str]:
        """The groups below our folder."""
        return _subfolders(self._root)

    def remove(self, name: str) -> None:
        """Kill through `cgroup.kill` where the kernel has it, then remove the group."""
        group = self._root / name
        kill = group / "cgroup.kill"
        if kill.exists():
            kill.write_text("1")
        _kill_until_empty(lambda: self.pids(name))
        _rmdir(group)

    def close(self) -> None:
        """Remove our folder."""
        _rmdir(self._root)


def probe(
    folder: str, mount: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> Cgroups | None:
    """Find a back end whose limits can really be written here; None when there is none.

    Args:
        folder: The name of our folder below the server's own group.
        mount: Where control groups are mounted.
        own: The file that names the server's own group in each hierarchy.
    """
    paths = _own_groups(own)
    candidates: list[Cgroups] = []
    if all((mount / controller).is_dir() for controller in V1_CONTROLLERS):
        parents = {c: _parent(mount / c, paths.get(c, "/")) for c in V1_CONTROLLERS}
        candidates.append(CgroupsV1(parents, folder))
    if (mount / "cgroup.controllers").exists():
        candidates.append(_v2(_parent(mount, paths.get("", "/")), folder))
    for candidate in candidates:
        try:
            candidate.create("probe", Limits(cpus=1, memory_bytes=1 << 30))
            candidate.remove("probe")
        except OSError:
            continue
        else:
            return candidate
        finally:
            candidate.close()
    return None


def _v2(parent: Path, folder: str) -> CgroupsV2:
    try:
        (parent / "cgroup.subtree_control").write_text("+cpu +memory +pids")
    except OSError:
        pass  # the probe's own writes tell whether the controllers are there
    return CgroupsV2(parent, folder)


def _own_groups(file: Path) -> dict[str, str]:
    groups: dict[str, str] = {}
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return groups
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            groups[controller] = path
    return groups


def _parent(mount: Path, path: str) -> Path:
    """The server's own group, or the mount's root where that path is not visible (in a container)."""
    own = mount / path.lstrip("/")
    return own if own.is_dir() else mount


def _subfolders(root: Path) -> list[str]:
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir()) if root.is_dir() else []


def _read_pids(group: Path) -> list[int]:
    try:
        return [int(line) for line in (group / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def _kill_until_empty(pids: Callable[[], list[int]]) -> None:
    """Kill again and again: a process may fork between the reading and the killing."""
    deadline = time.monotonic() + REMOVE_TIMEOUT_S
    while (alive := pids()) and time.monotonic() < deadline:
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.01)


def _rmdir(folder: Path) -> None:
    """Remove a control group: its files are the kernel's, so only rmdir works, once the dead are reaped."""
    deadline = time.monotonic() + REMOVE_TIMEOUT_S
    while folder.is_dir():
        try:
            folder.rmdir()
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline or _subfolders(folder):
                return
            time.sleep(0.01)
