"""One build from its call to its end: find or begin the job, have its units done, hand them over."""

import functools
import hashlib
import os
import pickle
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from blixt.data.build.commit import discard_notes
from blixt.data.build.engine import Engine
from blixt.data.build.executors import Executor, Hands
from blixt.data.build.finished import Finished
from blixt.data.build.job import Job, committed_by, open_job
from blixt.data.build.leftovers import discard_job, sweep
from blixt.data.build.lock import folder_lock, release_folder
from blixt.data.build.peers import tell_failure
from blixt.data.build.progress import Report, reporting
from blixt.data.build.sources import Cutting, prepared, unit_size_for, units_of
from blixt.data.build.task import Task
from blixt.data.build.units import CANNOT_TRAVEL, PlannedUnits, unwrapped
from blixt.data.schema import Schema
from blixt.data.store import Store


@dataclass(frozen=True, kw_only=True)
class Call:
    """What somebody asked for, in the terms that `optimize` and `map` share.

    Attributes:
        kind: "optimize" or "map".
        fn: the function.
        inputs: whatever holds the inputs.
        store: where the output goes.
        settings: what else decides the output; calls with other settings do not resume each other.
        cutting: how the inputs are cut.
        executor: who does the units.
        hands: the processes of this machine.
        resume: whether to go on with an equal call that broke off.
        wait_s: how long to wait for other machines that make no progress.
        progress: as the user gave it.
    """

    kind: str
    fn: Callable[..., Any]
    inputs: Any
    store: Store
    settings: tuple[Any, ...]
    cutting: Cutting
    executor: Executor
    hands: Hands
    resume: bool
    wait_s: float
    progress: bool | Report | None


class Build:
    """A call that has begun: `job`, and `run` to have its units done. Made by `begin`.

    Attributes:
        job: the job.
        outcome: what became of the job if this very run has published it before (a rank that was started
            once more), else None.
    """

    def __init__(self, call: Call, job: Job, inputs: Any, outcome: dict[str, Any] | None) -> None:
        self.job = job
        self.outcome = outcome
        self._call = call
        self._inputs = inputs

    def run(self, task: Task, schema: Schema | None) -> Finished | None:
        """Return the finished units; None when another machine published them: see `job.committed()`."""
        call = self._call
        units = units_of(self._inputs, call.cutting, self.job.unit_size)
        title = f"writing {call.store.location.rstrip('/').rpartition('/')[2]}"
        with reporting(call.progress, title) as report:
            return Engine(
                self.job,
                task if units.reader is None else replace(task, reader=units.reader),
                units,
                call.executor,
                call.hands,
                schema,
                call.wait_s,
                report,
            ).run()


@contextmanager
def begin(call: Call, check: Callable[[], None], since: int, dataset_id: UUID | None) -> Generator[Build]:
    """Hold the output for this build and find or begin its job; `check` may refuse to begin one.

    Raises:
        BuildError: when another process is building here.
    """
    alone = call.store.local is not None and not call.executor.shared
    with folder_lock(_root(call.store)) if alone else nullcontext():
        inputs = prepared(call.inputs, call.cutting)
        size = unit_size_for(inputs, call.cutting)
        key = _key(call, inputs, size)
        sweep(call.store, keep=key, alone=alone)
        open_already = call.store.size(f".build/{key}/job.json") is not None
        if not open_already and committed_by(call.store, key, call.executor.run_id) is None:
            check()
        job = _open(call, key, size, since, dataset_id)
        outcome = committed_by(call.store, key, job.run_id)
        if outcome is not None and not job.resumed:
            discard_notes(job)
        failure: BaseException | None = None
        try:
            yield Build(call, job, inputs, outcome)
        except BaseException as problem:
            failure = problem
            tell_failure(job, call.executor, problem)
            raise
        finally:
            call.executor.finish(job, failure)
            if alone:
                release_folder(_root(call.store))


def _open(call: Call, key: str, size: int, since: int, dataset_id: UUID | None) -> Job:
    def find() -> Job:
        return open_job(
            call.store,
            key,
            unit_size=size,
            dataset_id=dataset_id,
            since=since,
            shared=call.executor.shared,
            run_id=call.executor.run_id,
        )

    job = find()
    if job.resumed and not call.resume and not job.shared:
        discard_job(job)
        job = find()
    return job


def usable_cpus() -> int:
    """Return how many CPUs this process may use: fewer than the machine has in a job or a container."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(count, _quota(Path("/sys/fs/cgroup")) or count))


def _quota(cgroup: Path) -> int | None:
    """Return the CPUs that a container's limit allows, rounded up; None without a limit."""
    for file in ("cpu.max", "cpu/cpu.cfs_quota_us"):
        try:
            quota, *period = (cgroup / file).read_text().split()
            period_us = int(period[0] if period else (cgroup / "cpu/cpu.cfs_period_us").read_text())
        except (OSError, ValueError):
            continue
        if quota not in ("max", "-1"):
            return -(-int(quota) // period_us)
    return None


def _key(call: Call, inputs: Any, unit_size: int) -> str:
    """Name a call by its function and settings, and where machines must agree on them by its inputs too.

    The function counts by its name and what partials bind, not by its code: mend it and run again.
    """
    cutting, shared = call.cutting, call.executor.shared
    how = (cutting.unit_size, cutting.batch_size, cutting.fast_dev_run, cutting.reorder_files, shared)
    parts = [call.kind, _name_of(call.fn), repr(call.settings), repr(how)]
    if shared:
        units = units_of(inputs, call.cutting, unit_size)
        if isinstance(units, PlannedUnits):
            parts.append(units.fingerprint())
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=12).hexdigest()


def _name_of(fn: Callable[..., Any]) -> str:
    inner = unwrapped(fn)
    name = getattr(inner, "__qualname__", type(inner).__qualname__)
    while isinstance(fn, functools.partial):
        bound: list[Any] = [*fn.args, *sorted(fn.keywords.items())]
        name += "".join(f" {_text_of(value)}" for value in bound)
        fn = fn.func
    return name


def _text_of(value: Any) -> str:
    """Name a bound argument by its content, so that it has the same name in the next run."""
    try:
        packed = pickle.dumps(value)
    except CANNOT_TRAVEL:
        return type(value).__qualname__
    return hashlib.blake2b(packed, digest_size=16).hexdigest()


def _root(store: Store) -> Path:
    assert store.local is not None
    return store.local
