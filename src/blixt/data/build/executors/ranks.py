"""One process per machine, each with its fixed part of the units: torchrun, Slurm, Kubernetes."""

import os
from collections import deque
from collections.abc import Collection, Iterator, Mapping

from blixt.data.build.executors.base import Executor, Hands
from blixt.data.build.feed import Feed
from blixt.data.build.job import Done, Job
from blixt.data.build.task import Task
from blixt.data.errors import BuildError
from blixt.data.schema import Schema

_VARIABLES = (
    ("RANK", "WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
    ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"),
)


class Ranks(Executor):
    """Rank `r` of `w` does the units `r`, `r + w`, `r + 2w` ...; no rank does another's.

    Every rank makes the same call. Rank and number are taken from `RANK` and `WORLD_SIZE` (torchrun), from
    `SLURM_PROCID` and `SLURM_NTASKS`, or from `JOB_COMPLETION_INDEX` and `JOB_COMPLETIONS` (an indexed
    Kubernetes job; Kubernetes sets the first, put the second into the pod's environment).

    Args:
        rank: this process's number; from the environment when None.
        world_size: how many there are; from the environment when None.
        run_id: names this run, so that a rank that is started once more after the end of the build returns
            what was published; from Slurm or torchrun when None.

    Raises:
        BuildError: when the environment does not say who this is.
    """

    shared = True
    heeds_failures = True

    def __init__(
        self, rank: int | None = None, world_size: int | None = None, run_id: str | None = None
    ) -> None:
        self.rank, self.machines = _who(rank, world_size, os.environ)
        self.run_id = run_id or run_id_of(os.environ)
        self._mine: deque[int] = deque()

    def claim(self, job: Job, missing: Collection[int]) -> int | None:
        """Take the next unit of this rank's part."""
        if not self._mine:
            self._mine.extend(number for number in missing if number % self.machines == self.rank)
        return self._mine.popleft() if self._mine else None

    def run(self, task: Task, feed: Feed, schema: Schema | None, hands: Hands) -> Iterator[Done]:
        """Do the units in worker processes of this machine."""
        return hands.run(task, feed, schema)

    def finish(self, job: Job, failure: BaseException | None) -> None:
        """Nothing is held."""


def run_id_of(environment: Mapping[str, str]) -> str | None:
    """Return what names this run of several processes, None when nothing does.

    Example:
        >>> run_id_of({"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"})
        'slurm-7-0'
    """
    if "SLURM_JOB_ID" in environment:
        return f"slurm-{environment['SLURM_JOB_ID']}-{environment.get('SLURM_STEP_ID', '')}"
    run_id = environment.get("TORCHELASTIC_RUN_ID", "none")
    return None if run_id == "none" else f"torchrun-{run_id}"


def _who(rank: int | None, world_size: int | None, environment: Mapping[str, str]) -> tuple[int, int]:
    for rank_name, size_name in _VARIABLES:
        if rank_name in environment and size_name in environment:
            rank = int(environment[rank_name]) if rank is None else rank
            world_size = int(environment[size_name]) if world_size is None else world_size
            break
    if rank is None or world_size is None:
        names = ", or ".join(" and ".join(pair) for pair in _VARIABLES)
        raise BuildError(
            f"executor='ranks' needs {names} in the environment; start the script by torchrun, srun or an "
            "indexed job, or pass executor=Ranks(rank, world_size)"
        )
    if not 0 <= rank < world_size:
        raise BuildError(f"rank {rank} is not one of the {world_size} ranks 0 to {world_size - 1}")
    return rank, world_size
