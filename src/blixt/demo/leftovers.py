"""What a cloud could leave behind on this machine: processes, mounts, control groups."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OUR_GROUP = re.compile(rb"/(blixt-[0-9a-f]+)")


class Traces:
    """Finds what on this machine belongs to the cloud with a certain data folder.

    Control groups do not name the folder, so they are learned while the cloud runs: call `learn()` then.

    Args:
        data_dir: The data folder.
    """

    def __init__(self, data_dir: Path) -> None:
        self._needle = os.fsencode(str(data_dir))
        self._groups: set[str] = set()

    def learn(self) -> int:
        """Note the control groups of the cloud's processes; returns how many processes there are."""
        pids = list(self._pids())
        for pid in pids:
            found = _OUR_GROUP.findall(_bytes(Path(f"/proc/{pid}/cgroup")))
            self._groups.update(os.fsdecode(name) for name in found)
        return len(pids)

    def left(self) -> list[str]:
        """Everything that is there now, each in words; empty when the machine is clean."""
        return [*self._processes(), *self._mounts(), *self._left_groups()]

    def _processes(self) -> Iterator[str]:
        for pid in self._pids():
            command = _bytes(Path(f"/proc/{pid}/cmdline")).replace(b"\0", b" ")
            yield f"process {pid} ({command.decode('utf-8', 'replace').strip()[:80]})"

    def _pids(self) -> Iterator[int]:
        """Processes whose command, environment or working folder names the data folder, but for us."""
        ours = _ourselves()
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit() or int(folder.name) in ours:
                continue
            places = (_bytes(folder / "cmdline"), _bytes(folder / "environ"), _link(folder / "cwd"))
            if any(self._needle in place for place in places):
                yield int(folder.name)

    def _mounts(self) -> Iterator[str]:
        for line in _bytes(Path("/proc/self/mounts")).splitlines():
            if self._needle in line:
                yield f"mount {os.fsdecode(line.split()[1])}"

    def _left_groups(self) -> Iterator[str]:
        if not self._groups:
            return
        for folder, names, _ in os.walk(_CGROUPS):
            yield from (f"control group {folder}/{name}" for name in names if name in self._groups)


def _ourselves() -> set[int]:
    """This process and those that started it: a shell may well have the folder in its environment."""
    pids, pid = set[int](), os.getpid()
    while pid > 0 and pid not in pids:
        pids.add(pid)
        stat = _bytes(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()
        pid = int(stat[1]) if len(stat) > 1 else 0
    return pids


def _bytes(file: Path) -> bytes:
    """A file's content, empty when the process has just ended or is not ours to read."""
    try:
        return file.read_bytes()
    except OSError:
        return b""


def _link(file: Path) -> bytes:
    try:
        return os.fsencode(os.readlink(file))
    except OSError:
        return b""
