"""LSF with the Job Step Manager (`jsrun`), as on large IBM machines."""

import os
import socket
from pathlib import Path

from blixt.fabric.cluster.base import ClusterEnvironment, number
from blixt.fabric.errors import ConfigError

_NEEDED = ("LSB_JOBID", "LSB_DJOB_RANKFILE", "JSM_NAMESPACE_LOCAL_RANK", "JSM_NAMESPACE_SIZE")


class LSFEnvironment(ClusterEnvironment):
    """Tasks that `jsrun` started.

    Ranks come from JSM_NAMESPACE_*, machines from the file that LSB_DJOB_RANKFILE names: its first line is
    the machine that only launches, each other line the machine of one rank.

    Raises:
        ConfigError: When that file cannot be used.
    """

    name = "lsf"

    def __init__(self) -> None:
        self._hosts = _machines()
        own = socket.gethostname()
        if own not in self._hosts:
            reason = f"the file does not name this machine, {own}"
            raise ConfigError(
                "LSB_DJOB_RANKFILE", os.environ["LSB_DJOB_RANKFILE"], reason, "Start it with jsrun"
            )
        self._node_rank = self._hosts.index(own)

    @property
    def creates_processes_externally(self) -> bool:
        """Always: jsrun makes them."""
        return True

    @property
    def main_address(self) -> str:
        """MASTER_ADDR, else the machine of the first rank."""
        return os.environ.get("MASTER_ADDR") or self._hosts[0]

    @property
    def main_port(self) -> int:
        """MASTER_PORT, else one that follows from the job's number."""
        return number("MASTER_PORT", 0) or number("LSB_JOBID") % 1000 + 10000

    @staticmethod
    def detect() -> bool:
        """Whether jsrun started this process."""
        return all(name in os.environ for name in _NEEDED)

    def world_size(self) -> int:
        """JSM_NAMESPACE_SIZE."""
        return number("JSM_NAMESPACE_SIZE")

    def global_rank(self) -> int:
        """JSM_NAMESPACE_RANK."""
        return number("JSM_NAMESPACE_RANK")

    def local_rank(self) -> int:
        """JSM_NAMESPACE_LOCAL_RANK."""
        return number("JSM_NAMESPACE_LOCAL_RANK")

    def node_rank(self) -> int:
        """The place of this machine in the rank file."""
        return self._node_rank

    def local_world_size(self) -> int | None:
        """Tasks of this machine, where all machines have equally many."""
        tasks, machines = self.world_size(), len(self._hosts)
        return tasks // machines if tasks % machines == 0 else None


def _machines() -> list[str]:
    """The machines of the job that compute, each once, in order."""
    path = os.environ.get("LSB_DJOB_RANKFILE")
    if not path:
        reason = "it must name the file of the job's machines"
        raise ConfigError("LSB_DJOB_RANKFILE", path, reason, "Start the script with jsrun")
    try:
        lines = Path(path).read_text().split()
    except OSError as error:
        raise ConfigError(
            "LSB_DJOB_RANKFILE", path, f"it cannot be read ({error})", "Start with jsrun"
        ) from None
    if len(lines) < 2:
        reason = "it names no machine beside the one that launches"
        raise ConfigError("LSB_DJOB_RANKFILE", path, reason, "Start the script with jsrun")
    return list(dict.fromkeys(lines[1:]))
