"""`map`: a function over inputs, in worker processes, writes files that arrive in one output whole."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from blixt.data.build.commit import close_job
from blixt.data.build.executors import Executor, Hands, executor_of
from blixt.data.build.optimize import StartMethod, positive, worker_count
from blixt.data.build.progress import Report
from blixt.data.build.run import Call, begin
from blixt.data.build.settings import Patience, Transfer
from blixt.data.build.sources import Cutting
from blixt.data.build.task import FilesTask
from blixt.data.errors import DatasetExistsError
from blixt.data.store import Credentials, Store, open_store


def map(
    fn: Callable[..., Any],
    inputs: Any,
    output: str | Path,
    *,
    num_workers: int | None = None,
    error_when_not_empty: bool = False,
    resume: bool = True,
    weights: Sequence[float] | None = None,
    batch_size: int | None = None,
    fast_dev_run: bool | int = False,
    reorder_files: bool = False,
    unit_size: int | None = None,
    max_attempts: int = 3,
    timeout_s: float | None = None,
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
) -> list[str]:
    """Call `fn(item, output_dir)` on every input; the files that it writes there go to `output`.

    `output_dir` is a folder of the unit's own: its files move to the output when all inputs of the unit are
    done, so a file is there whole or not at all, and two units that write the same name leave the one that
    came last. A run that breaks off keeps its finished units, and the same call goes on from them.

    `fn` may have two more arguments, known by their names: `device` ("cuda:0" ... in turn for the workers of
    a machine with GPUs, else "cpu") and `is_last` (True for the last input of a unit: what `fn` gathered
    over the unit must be written then, since another unit may be done by another process).

    Args:
        fn: the function; what it returns is ignored.
        inputs: as of `optimize`.
        output: a folder or bucket address.
        num_workers: processes; None is one per usable CPU, 0 runs in this process.
        error_when_not_empty: refuse an output that holds anything.
        resume: go on from the finished units of an equal call that broke off.
        weights: as of `optimize`, like everything below.
        batch_size: call `fn` with lists of so many inputs.
        fast_dev_run: use only the first ten inputs, or so many.
        reorder_files: inputs are paths; begin with the largest.
        unit_size: inputs per unit.
        max_attempts: how often a unit may kill or hang its worker before the call fails.
        timeout_s: how long one call of `fn` may take.
        input_dir: a store's address whose files are fetched ahead.
        input_options: `credentials` and `options` for it.
        num_downloaders: files that a worker fetches at a time.
        num_uploaders: files that a worker sends at a time.
        scratch_dir: where local copies are.
        credentials: for `output`.
        options: for `output`.
        executor: "local", "ranks", "leases", "ray" or an `Executor`.
        wait_s: how long to wait for other machines while none of them finishes a unit.
        start_method: how worker processes start.
        progress: True, False, None or a callable.
        verbose: False is short for `progress=False`.

    Returns:
        The names of the files that were written, sorted.

    Raises:
        BuildError: when `fn` fails, kills or hangs its workers; names the input.
        DatasetExistsError: when the output must be empty and is not.
        WriteError, StoreError: when the output is refused.
    """
    store = open_store(output, credentials=credentials, options=options)
    store.check_writable()
    runner, workers = executor_of(executor), worker_count(num_workers)
    scratch = None if scratch_dir is None else str(scratch_dir)
    transfer = Transfer(input_dir, dict(input_options or {}), num_downloaders, num_uploaders, scratch)
    call = Call(
        kind="map",
        fn=fn,
        inputs=inputs,
        store=store,
        settings=(),
        cutting=Cutting(
            workers=max(workers, 1) * runner.machines,
            unit_size=positive("unit_size", unit_size),
            weights=weights,
            batch_size=positive("batch_size", batch_size),
            fast_dev_run=fast_dev_run,
            reorder_files=reorder_files,
            travels=bool(workers) or runner.machines > 1,
            planned=runner.shared,
        ),
        executor=runner,
        hands=Hands(workers, Patience(max_attempts, timeout_s), start_method),
        resume=resume,
        wait_s=wait_s,
        progress=progress if verbose else False,
    )
    return _map(call, transfer, error_when_not_empty)


def _map(call: Call, transfer: Transfer, must_be_empty: bool) -> list[str]:
    def check() -> None:
        if must_be_empty:
            _refuse_files(call.store)

    named = inspect.signature(call.fn).parameters
    with begin(call, check, 0, None) as build:
        if build.outcome is not None:
            return build.outcome["files"]
        task = FilesTask(
            fn=call.fn,
            job=build.job,
            transfer=transfer,
            device="device" in named,
            is_last="is_last" in named,
        )
        finished = build.run(task, None)
        if finished is None:
            return (build.job.committed() or {"files": []})["files"]
        files = sorted({file for done in finished.by_unit.values() for file in done.files})
        close_job(build.job, files=files)
        return files


def _refuse_files(store: Store) -> None:
    found = next((path for path, _ in store.list() if not path.startswith(".build/")), None)
    if found is not None:
        raise DatasetExistsError(
            f"{store.location} is not empty: it holds {found}; choose another output, or "
            "error_when_not_empty=False"
        )
