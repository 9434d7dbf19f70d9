"""How much memory a process may still take: of the machine, of its control group, of a GPU."""

from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


def free_bytes(device: torch.device) -> int:
    """Memory that can be had on a device now, in bytes.

    For the CPU the least of what the machine has available (its page cache counts, for it can be dropped) and
    what every control group above this process leaves; for CUDA what the driver says.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min([available(_MEMINFO), *cgroup_headrooms(_CGROUP, _own_group(Path("/proc/self/cgroup")))])


def available(meminfo: Path) -> int:
    """`MemAvailable` in bytes; very much where the file does not exist (not Linux)."""
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return 1 << 62
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 1 << 62


def cgroup_headrooms(root: Path, group: str) -> list[int]:
    """What each control group (version 2, or version 1's memory controller) leaves, innermost first.

    Args:
        root: Where control groups are mounted.
        group: This process's, such as "/user.slice/app"; "/" inside a container.
    """
    found: list[int] = []
    for base, limit, used in (
        (root, "memory.max", "memory.current"),
        (root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        here = base / group.strip("/")
        for folder in (here, *here.parents):
            if not folder.is_relative_to(base):
                break
            most, taken = _number(folder / limit), _number(folder / used)
            if most is not None and taken is not None:
                found.append(max(0, most - taken + _droppable(folder / "memory.stat")))
    return found


def _own_group(path: Path) -> str:
    """The memory controller's group, else the one of version 2."""
    try:
        lines = [line.split(":", 2) for line in path.read_text().splitlines()]
    except OSError:
        return "/"
    groups = {controllers: group for _, controllers, group in lines}
    return groups.get("memory", groups.get("", "/"))


def _droppable(stat: Path) -> int:
    """File pages that are charged to the group and can be dropped."""
    try:
        values = dict(line.split(maxsplit=1) for line in stat.read_text().splitlines())
        return int(values.get("inactive_file", 0)) + int(values.get("active_file", 0))
    except (OSError, ValueError):
        return 0


def _number(path: Path) -> int | None:
    """A file's number; None where it does not exist or says `max`."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
