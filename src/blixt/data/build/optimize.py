"""`optimize`: a function over inputs, in worker processes, becomes one new version of a dataset."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from blixt.data.build.commit import close_job, commit, discard_notes, discard_shards
from blixt.data.build.executors import Executor, Hands, executor_of
from blixt.data.build.progress import Report
from blixt.data.build.run import Call, begin, usable_cpus
from blixt.data.build.settings import Layout, Patience, Transfer
from blixt.data.build.sources import Cutting
from blixt.data.build.task import SamplesTask
from blixt.data.crypto import Encryption
from blixt.data.keys import KeyOf
from blixt.data.sizes import parse_size
from blixt.data.snapshot import Mode, Snapshot, check_mode, find_job, latest_version, load, referenced_files
from blixt.data.store import Credentials, Store, open_store

StartMethod = Literal["forkserver", "spawn", "fork"]
_CHUNK_BYTES = "64MB"
_ANY_SIZE = 1 << 50


def optimize(
    fn: Callable[[Any], Any],
    inputs: Any,
    output: str | Path,
    *,
    num_workers: int | None = None,
    chunk_bytes: str | int | None = None,
    chunk_size: int | None = None,
    mode: Mode | None = None,
    resume: bool = True,
    weights: Sequence[float] | None = None,
    batch_size: int | None = None,
    fast_dev_run: bool | int = False,
    keep_data_ordered: bool = True,
    reorder_files: bool = False,
    unit_size: int | None = None,
    max_attempts: int = 3,
    timeout_s: float | None = None,
    compress: str | None = None,
    encrypt: Encryption | None = None,
    key: KeyOf | None = None,
    key_duplicates: Literal["error", "first", "last"] = "error",
    allow_pickle: bool = False,
    input_dir: str | None = None,
    input_options: Mapping[str, Any] | None = None,
    num_downloaders: int = 2,
    num_uploaders: int = 2,
    scratch_dir: str | Path | None = None,
    credentials: Credentials = None,
    options: Mapping[str, str] | None = None,
    executor: str | Executor = "local",
    wait_s: float = 3600.0,
    start_method: StartMethod = "forkserver",
    progress: bool | Report | None = None,
    verbose: bool = True,
) -> Snapshot:
    """Call `fn` on every input and publish what it returns as one new version of the dataset in `output`.

    `fn` returns one sample, or is a generator that yields none, one or several. Inputs are cut into units;
    a unit is the grain of order, retry and resume. A run that breaks off (an error, Ctrl-C, kill -9, a full
    disk) keeps its finished units, and the same call goes on from them; units whose inputs are not the same
    any more are done again. The function counts by its name and bound arguments, not by its code.

    A generator, a loader or a queue is drawn from while workers work. On resume it has to give the same
    items from the beginning: finished units are then only skipped, otherwise they are done again. A worker
    that dies loses nothing; but items that a killed *parent* had taken from a queue are gone unless the
    producer puts them again.

    Args:
        fn: called with one input; must be importable by a worker process unless `num_workers` is 0.
        inputs: a sequence; a dataset with `len` and `[]` (ours, Hugging Face); a `ParquetRows`,
            `ParquetTables` or `TarSamples`; any iterable; a queue that ends with `ALL_DONE`.
        output: the dataset's folder or bucket address.
        num_workers: processes; None is one per usable CPU, 0 runs in this process.
        chunk_bytes: about how large a shard may grow; 64 MB unless `chunk_size` is given.
        chunk_size: how many samples a shard has; units are then multiples of it, so that all shards but the
            last are full when `fn` returns one sample per input.
        mode: None or "error" when a dataset is there, "append" to it, or "overwrite" it.
        resume: go on from the finished units of an equal call that broke off.
        weights: of each input, so that units get equal weight instead of equal number.
        batch_size: call `fn` with lists of so many inputs.
        fast_dev_run: use only the first ten inputs, or so many.
        keep_data_ordered: samples keep the order of the inputs, however many workers there are; False takes
            units in the order in which they are finished.
        reorder_files: inputs are paths; begin with the largest.
        unit_size: inputs per unit; None chooses about eight units per worker.
        max_attempts: how often a unit may kill or hang its worker before the build fails.
        timeout_s: how long one call of `fn` (of a generator: all of it) may take before its worker is killed.
        compress: "zstd" or "zstd:LEVEL" for the blocks of variable columns.
        encrypt: an `Encryption`, for AES-GCM of every block.
        key: a column (or a function of a sample) by which rows can be looked up.
        key_duplicates: what a key that occurs twice means: an error, or whether its first or last row has it.
        allow_pickle: whether samples may hold `Pickle` values.
        input_dir: a store's address; strings in inputs that begin with it are fetched ahead, and `fn` gets
            the path of a local copy, which is removed afterwards.
        input_options: `credentials` and `options` for `input_dir`.
        num_downloaders: files that a worker fetches at a time.
        num_uploaders: files that a worker sends at a time.
        scratch_dir: where local copies are; None is the system's folder for temporary files.
        credentials: for `output`.
        options: for `output`, such as `{"endpoint": ...}`.
        executor: "local"; "ranks" (one process per machine, numbered by torchrun, Slurm or Kubernetes);
            "leases" (machines come and go); "ray" (a Ray cluster that runs); or an `Executor`.
        wait_s: how long to wait for other machines while none of them finishes a unit.
        start_method: how worker processes start.
        progress: True or None shows a bar on a terminal and else a line every ten seconds, False nothing; a
            callable gets (inputs done, inputs in all or None).
        verbose: False is short for `progress=False`.

    Returns:
        The published snapshot.

    Raises:
        BuildError: when `fn` fails, kills or hangs its workers; names the input.
        SchemaError: when a sample does not fit the columns of the first; names input and field.
        DatasetExistsError: in mode None when there is a dataset.
        WriteError, StoreError: when the output is refused.
    """
    store = open_store(output, credentials=credentials, options=options)
    store.check_writable()
    mode = mode or "error"
    check_mode(store, mode, look=False)
    runner = executor_of(executor)
    workers = worker_count(num_workers)
    layout = Layout(
        _ANY_SIZE if chunk_bytes is None and chunk_size else parse_size(chunk_bytes or _CHUNK_BYTES),
        positive("chunk_size", chunk_size),
        _given(compress=compress, encrypt=encrypt, key=key, allow_pickle=allow_pickle or None),
        key_duplicates,
    )
    cutting = Cutting(
        workers=max(workers, 1) * runner.machines,
        unit_size=positive("unit_size", unit_size),
        weights=weights,
        batch_size=positive("batch_size", batch_size),
        fast_dev_run=fast_dev_run,
        reorder_files=reorder_files,
        align=chunk_size or 1,
        travels=bool(workers) or runner.machines > 1,
        planned=runner.shared,
    )
    transfer = Transfer(
        input_dir,
        dict(input_options or {}),
        num_downloaders,
        num_uploaders,
        None if scratch_dir is None else str(scratch_dir),
    )
    call = Call(
        kind="optimize",
        fn=fn,
        inputs=inputs,
        store=store,
        settings=_settings(mode, layout, keep_data_ordered),
        cutting=cutting,
        executor=runner,
        hands=Hands(workers, Patience(max_attempts, timeout_s), start_method),
        resume=resume,
        wait_s=wait_s,
        progress=progress if verbose else False,
    )
    return _optimize(call, layout, transfer, mode, keep_data_ordered)


def _optimize(call: Call, layout: Layout, transfer: Transfer, mode: Mode, ordered: bool) -> Snapshot:
    store = call.store
    newest = latest_version(store)
    base = load(store) if mode == "append" and newest else None
    check = _checker(store, mode)
    with begin(call, check, newest, base.dataset_id if base else None) as build:
        job = build.job
        if build.outcome is not None:
            return load(store, build.outcome["version"])
        published = find_job(store, job.name, job.since) if job.resumed else None
        if published is not None:
            close_job(job, version=published.version, published=referenced_files(store))
            return published
        check()
        task = SamplesTask(fn=call.fn, job=job, transfer=transfer, layout=layout)
        finished = build.run(task, base.schema if base else None)
        if finished is None:
            discard_shards(job, referenced_files(store))
            discard_notes(job)
            return load(store, (job.committed() or {}).get("version"))
        return commit(job, finished, mode, ordered, layout)


def _checker(store: Store, mode: Mode) -> Callable[[], None]:
    return lambda: check_mode(store, mode)


def worker_count(num_workers: int | None) -> int:
    """Return how many processes to use.

    Raises:
        ValueError: for a negative number.
    """
    if num_workers is None:
        return usable_cpus()
    if num_workers < 0:
        raise ValueError(f"num_workers must be 0 or more, got {num_workers}")
    return num_workers


def positive(name: str, value: int | None) -> int | None:
    """Return the value if it is None or at least 1.

    Raises:
        ValueError: otherwise.
    """
    if value is not None and value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return value


def _settings(mode: Mode, layout: Layout, ordered: bool) -> tuple[Any, ...]:
    """Return what decides how shards look: calls that differ in it do not go on with each other's units."""
    key, encrypt = layout.writer.get("key"), layout.writer.get("encrypt")
    named = key if isinstance(key, str) or key is None else getattr(key, "__qualname__", "a function")
    secret = None if encrypt is None else encrypt.key_id
    return mode, layout.chunk_bytes, layout.chunk_rows, layout.writer.get("compress"), named, secret, ordered


def _given(**arguments: Any) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}
