"""The units as tasks of a Ray cluster that runs; Ray retries those of workers and nodes that die."""

import threading
from collections.abc import Collection, Iterator
from typing import Any

from blixt.data.build.executors.base import Executor, Hands
from blixt.data.build.feed import Feed
from blixt.data.build.job import Done, Job
from blixt.data.build.task import Task
from blixt.data.errors import BuildError, DataError
from blixt.data.schema import Schema

_LISTEN_S = 0.5


class Ray(Executor):
    """Each unit is one task; inputs, function and output store must mean the same on every node.

    The cluster is the one this process is connected to (`ray.init`), or the one that `address` names. Only
    notes pass through Ray: shards go from the node that made them to the output store.

    Args:
        address: of the cluster; "auto" finds it by `RAY_ADDRESS` or on this machine.
        options: of `ray.remote` for each task, such as `{"num_cpus": 2}`.
        in_flight: units handed to Ray at a time; None is twice the cluster's CPUs.
    """

    def __init__(
        self, address: str = "auto", options: dict[str, Any] | None = None, in_flight: int | None = None
    ) -> None:
        self._ray: Any = _ray()
        if not self._ray.is_initialized():
            self._ray.init(address=address, log_to_driver=False)
        cpus = int(self._ray.cluster_resources().get("CPU", 1))
        self.machines = cpus
        self._in_flight = in_flight or 2 * cpus
        self._options = options or {}

    def claim(self, job: Job, missing: Collection[int]) -> int | None:
        """Take the first unit."""
        return next(iter(missing), None)

    def run(self, task: Task, feed: Feed, schema: Schema | None, hands: Hands) -> Iterator[Done]:
        """Do the units in tasks; a unit whose worker died is tried `max_attempts` times in all."""
        retries = {"max_retries": hands.patience.max_attempts - 1}
        remote: Any = self._ray.remote(_run_unit).options(**{**retries, **self._options})
        task_ref = self._ray.put(task)
        running: dict[Any, int] = {}
        try:
            while True:
                while len(running) < self._in_flight and (unit := feed.take()) is not None:
                    running[remote.remote(task_ref, unit, schema)] = unit.number
                if not running and feed.exhausted:
                    return
                for reference in self._ready(running):
                    done = self._result(reference, running.pop(reference))
                    schema = schema or done.schema
                    yield done
        finally:
            feed.close()
            for reference in running:
                self._ray.cancel(reference, force=True)

    def _ready(self, running: dict[Any, int]) -> list[Any]:
        """Wait for a task to end, but not for long: a unit that was awaited may have come."""
        if not running:
            threading.Event().wait(_LISTEN_S / 10)
            return []
        return self._ray.wait(list(running), timeout=_LISTEN_S)[0]

    def finish(self, job: Job, failure: BaseException | None) -> None:
        """The cluster belongs to whoever started it."""

    def _result(self, reference: Any, unit: int) -> Done:
        try:
            outcome: Done | DataError = self._ray.get(reference)
        except self._ray.exceptions.RayError as problem:
            raise BuildError(
                f"unit {unit} was lost by Ray ({type(problem).__name__}: {problem}); finished units are "
                "kept: run the same call again to go on"
            ) from None
        if isinstance(outcome, DataError):
            raise outcome
        return outcome


def _run_unit(task: Task, unit: Any, schema: Schema | None) -> Done | DataError:
    """The body of a Ray task; our errors travel as values, so that they arrive as they are."""
    try:
        return task.run(unit, schema)
    except DataError as problem:
        return problem


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise BuildError("executor='ray' needs Ray on every node; pip install 'ray[default]'") from None
    return ray
