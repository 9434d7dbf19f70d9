"""`optimize`: a function over inputs, in worker processes, becomes one new version of a dataset."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from blixt.data.build.job import Done, JobDir, fingerprint, open_job
from blixt.data.build.pool import Pool, run_inline
from blixt.data.build.progress import Report, reporting
from blixt.data.build.worker import Unit
from blixt.data.errors import BuildError, SchemaError
from blixt.data.schema import Schema
from blixt.data.sizes import parse_size
from blixt.data.snapshot import Mode, Snapshot, check_mode, latest_version, load, publish

_UNITS_PER_WORKER = 8
_MAX_UNIT_INPUTS = 4096


def optimize(
    fn: Callable[[Any], Any],
    inputs: Iterable[Any],
    output_dir: str | Path,
    *,
    num_workers: int | None = None,
    chunk_bytes: str | int = "64MB",
    mode: Mode = "error",
    unit_size: int | None = None,
    resume: bool = True,
    progress: bool | Report | None = None,
) -> Snapshot:
    """Call `fn` on every input and publish what it returns as one new version of the dataset in `output_dir`.

    `fn` returns one sample, or is a generator that yields none, one or several. Samples keep the order of the
    inputs, however many workers there are. Inputs are cut into units; a run that breaks off (an error,
    Ctrl-C,
    kill -9, a full disk) keeps its finished units, and the same call goes on from them.

    Args:
        fn: called with one input; must be importable by a worker process unless `num_workers` is 0.
        inputs: anything to iterate over; it is listed first.
        output_dir: the dataset's folder.
        num_workers: processes; None is one per core, 0 runs in this process.
        chunk_bytes: about how large a shard may grow; a unit writes at least one.
        mode: "error" when a dataset is there, "append" to it, or "overwrite" it.
        unit_size: inputs per unit; None chooses about eight units per worker.
        resume: go on from the finished units of an equal call that broke off.
        progress: True shows a bar, a callable gets (inputs done, inputs in all), None is a bar on a terminal.

    Returns:
        The published snapshot.

    Raises:
        BuildError: when `fn` fails or kills its workers; names the input.
        SchemaError: when a sample does not fit the columns of the first; names input and field.
        DatasetExistsError: in mode "error" when there is a dataset.
        WriteError: when the disk refuses.
    """
    root, items = Path(output_dir), inputs if isinstance(inputs, Sequence) else list(inputs)
    check_mode(root, mode)
    if not items:
        raise BuildError(f"there are no inputs, so there is nothing to write to {root}")
    size, workers = parse_size(chunk_bytes), _worker_count(num_workers, len(items))
    base = load(root) if mode == "append" and latest_version(root) else None
    job = open_job(
        root,
        fingerprint(fn, items, size, latest_version(root)),
        unit_size or _unit_size(len(items), workers),
        base.dataset_id if base else None,
        resume,
    )
    try:
        done = _run(fn, items, job, size, workers, base.schema if base else None, progress)
        snapshot = _commit(root, job.dataset_id, done, mode)
        job.remove()
        return snapshot
    finally:
        job.close()


def _run(
    fn: Callable[[Any], Any],
    items: Sequence[Any],
    job: JobDir,
    chunk_bytes: int,
    workers: int,
    schema: Schema | None,
    progress: bool | Report | None,
) -> dict[int, Done]:
    """Run the units that are not finished yet and return all of them by number."""
    count = -(-len(items) // job.unit_size)
    done = job.finished()
    schema = schema or next((unit.schema for unit in done.values() if unit.schema), None)

    def make(number: int, schema: Schema | None) -> Unit:
        first = number * job.unit_size
        return Unit(number, first, items[first : first + job.unit_size], schema)

    missing = [number for number in range(count) if number not in done]
    if workers:
        finished = Pool(fn, job, chunk_bytes, workers).run(missing, make, schema)
    else:
        finished = run_inline(fn, job, chunk_bytes, missing, make, schema)
    with reporting(progress, f"writing {job.root.name}") as report:
        inputs_done = sum(len(make(number, None).inputs) for number in done)
        report(inputs_done, len(items))
        for unit in finished:
            done[unit.unit] = unit
            inputs_done += len(make(unit.unit, None).inputs)
            report(inputs_done, len(items))
    return done


def _commit(root: Path, dataset_id: UUID, done: dict[int, Done], mode: Mode) -> Snapshot:
    """Publish the units' shards in the order of the units."""
    written = [done[number] for number in sorted(done) if done[number].schema is not None]
    if not written or written[0].schema is None:
        raise BuildError(
            f"the function yielded no sample for any input, so there is nothing to write to {root}"
        )
    first = written[0]
    for unit in written:
        if unit.schema != first.schema:
            raise SchemaError(_units_differ(first, unit))
    return publish(
        root, dataset_id, written[0].schema, [shard for unit in written for shard in unit.shards], mode
    )


def _units_differ(first: Done, other: Done) -> str:
    def describe(unit: Done) -> str:
        columns = unit.schema.columns if unit.schema else ()
        return f"unit {unit.unit} has " + ", ".join(
            f"{column.name!r}: {column.describe()}" for column in columns
        )

    return (
        f"the inputs give samples of different columns: {describe(first)}; {describe(other)}; make them equal"
    )


def _worker_count(num_workers: int | None, inputs: int) -> int:
    if num_workers is None:
        num_workers = (
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        )
    if num_workers < 0:
        raise ValueError(f"num_workers must be 0 or more, got {num_workers}")
    return min(num_workers, inputs)


def _unit_size(inputs: int, workers: int) -> int:
    return min(-(-inputs // (max(workers, 1) * _UNITS_PER_WORKER)), _MAX_UNIT_INPUTS)
