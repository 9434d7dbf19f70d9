"""MPI: mpiexec or mpirun makes the processes; training itself talks over torch.distributed."""

import os
import socket
import zlib
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

from blixt.fabric.cluster.base import ClusterEnvironment, free_port, job_port, number
from blixt.fabric.errors import ConfigError


@dataclass(frozen=True)
class _Names:
    """Where one family of MPI writes the ranks."""

    size: str
    rank: str
    local_rank: str
    local_size: str
    job: str


_FAMILIES = (
    _Names(
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
        "PMIX_NAMESPACE",
    ),
    _Names(
        "MV2_COMM_WORLD_SIZE",
        "MV2_COMM_WORLD_RANK",
        "MV2_COMM_WORLD_LOCAL_RANK",
        "MV2_COMM_WORLD_LOCAL_SIZE",
        "MPIRUN_ID",
    ),
    _Names("PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", "PMI_ID"),
)


class MPIEnvironment(ClusterEnvironment):
    """OpenMPI, MPICH, Intel MPI or MVAPICH, by their environment variables.

    Ranks need no Python package. Where rank 0 is, is told by MASTER_ADDR and MASTER_PORT, else known because
    all processes are on this machine, else asked for by mpi4py, which has to be installed then.

    Raises:
        ConfigError: When no MPI started this process.
    """

    name = "mpi"

    def __init__(self) -> None:
        names = _family()
        if names is None:
            reason = "no mpiexec or mpirun started this process"
            raise ConfigError("plugins", "MPIEnvironment", reason, "Start it with `mpiexec -n 2 python ...`")
        self._names = names

    @property
    def creates_processes_externally(self) -> bool:
        """Always: mpiexec makes them."""
        return True

    @property
    def main_address(self) -> str:
        """Of rank 0's machine."""
        return self._meeting[0]

    @property
    def main_port(self) -> int:
        """On rank 0's machine."""
        return self._meeting[1]

    @staticmethod
    def detect() -> bool:
        """Whether an MPI launcher started several processes. MPI itself is not loaded to find out."""
        names = _family()
        return names is not None and number(names.size, 1) > 1

    def world_size(self) -> int:
        """Processes of the launcher."""
        return number(self._names.size)

    def global_rank(self) -> int:
        """Of this process among all."""
        return number(self._names.rank)

    def local_rank(self) -> int:
        """Of this process on its machine."""
        return number(self._names.local_rank, self.global_rank() % self.local_world_size())

    def local_world_size(self) -> int:
        """Processes on this machine."""
        return number(self._names.local_size, self.world_size())

    def node_rank(self) -> int:
        """Of this machine, where ranks are dealt out machine by machine."""
        return self.global_rank() // self.local_world_size()

    @cached_property
    def _meeting(self) -> tuple[str, int]:
        if "MASTER_ADDR" in os.environ and "MASTER_PORT" in os.environ:
            return os.environ["MASTER_ADDR"], number("MASTER_PORT")
        if self.local_world_size() < self.world_size():
            return _told_by_rank_zero()
        # All local processes of one mpiexec have one parent; a job name is better where there is one.
        key = os.environ.get(self._names.job) or str(os.getppid())
        return "127.0.0.1", number("MASTER_PORT", job_port(zlib.crc32(key.encode())))


def _family() -> _Names | None:
    return next((names for names in _FAMILIES if names.size in os.environ and names.rank in os.environ), None)


def _told_by_rank_zero() -> tuple[str, int]:
    """Ask over MPI itself, which is started only for that."""
    try:
        world: Any = import_module("mpi4py.MPI").COMM_WORLD
    except (ImportError, RuntimeError) as error:
        reason = f"the processes are on several machines and mpi4py cannot say where rank 0 is ({error})"
        raise ConfigError("MASTER_ADDR", None, reason, "Set MASTER_ADDR and MASTER_PORT") from error
    return world.bcast((socket.gethostname(), free_port()), root=0)
