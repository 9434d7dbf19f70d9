"""Where the units of a build run: this machine, one rank per machine, leases in the store, a Ray cluster."""

from blixt.data.build.executors.base import Executor, Hands
from blixt.data.build.executors.leases import Leases
from blixt.data.build.executors.local import Local
from blixt.data.build.executors.ranks import Ranks
from blixt.data.build.executors.ray import Ray

NAMES: dict[str, type[Executor]] = {"local": Local, "ranks": Ranks, "leases": Leases, "ray": Ray}

__all__ = ["NAMES", "Executor", "Hands", "Leases", "Local", "Ranks", "Ray", "executor_of"]


def executor_of(executor: str | Executor) -> Executor:
    """Return the executor that a name stands for.

    Raises:
        ValueError: for a name that is none.
    """
    if isinstance(executor, Executor):
        return executor
    if executor not in NAMES:
        raise ValueError(f"executor must be one of {', '.join(NAMES)} or an Executor, got {executor!r}")
    return NAMES[executor]()
