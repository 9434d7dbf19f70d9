"""A function that takes its worker with it costs its unit an attempt; the input is named; nothing hangs."""

import multiprocessing
import os
import signal
from functools import partial
from pathlib import Path

import pytest

from blixt.data import BuildError, Dataset, DatasetNotFoundError, optimize
from blixt.data.build.feed import PlannedFeed
from blixt.data.build.job import open_job
from blixt.data.build.pool import Pool
from blixt.data.build.run import usable_cpus
from blixt.data.build.settings import Layout, Patience
from blixt.data.build.task import SamplesTask
from blixt.data.build.units import ListedUnits, borders_by_count
from blixt.data.store import open_store

from .functions import crash, crash_once, number, number_of, sized


def xs(folder: Path) -> list[int]:
    return [sample["x"] for sample in Dataset(folder)]


@pytest.mark.parametrize(("how", "code"), [("segfault", -signal.SIGSEGV), ("kill", -9), ("exit", 3)])
def test_a_function_that_kills_its_worker_is_tried_again_and_then_named(
    tmp_path: Path, how: str, code: int
) -> None:
    message = rf"unit 2 killed its worker 2 times \(exit code {code}; .* last at input 12 \(12\); finished"
    with pytest.raises(BuildError, match=message):
        optimize(partial(crash, how), range(20), tmp_path, num_workers=2, unit_size=5, max_attempts=2)
    with pytest.raises(DatasetNotFoundError):
        Dataset(tmp_path)


def test_a_function_that_hangs_is_killed_and_named(tmp_path: Path) -> None:
    message = r"unit 2 hung for more than 1.5 s in each of 2 attempts, last at input 12 \(12\)"
    with pytest.raises(BuildError, match=message):
        optimize(
            partial(crash, "hang"),
            range(20),
            tmp_path,
            num_workers=2,
            unit_size=5,
            max_attempts=2,
            timeout_s=1.5,
        )


@pytest.mark.parametrize("how", ["segfault", "exit", "hang"])
def test_what_goes_wrong_once_costs_nothing_but_time(tmp_path: Path, how: str) -> None:
    fn = partial(crash_once, how, tmp_path / "mark")
    timeout_s = 1.5 if how == "hang" else 60.0
    optimize(fn, range(20), tmp_path / "out", num_workers=2, unit_size=5, timeout_s=timeout_s)
    assert (tmp_path / "mark").exists()
    assert xs(tmp_path / "out") == list(range(20))


@pytest.mark.parametrize("workers", [0, 1])
def test_sys_exit_in_the_function_is_an_error_that_names_the_input(tmp_path: Path, workers: int) -> None:
    with pytest.raises(BuildError, match=r"input 12 \(12\): SystemExit: 3"):
        optimize(partial(crash, "sys.exit"), range(20), tmp_path, num_workers=workers)


def test_a_large_bound_argument_travels_once_per_worker_and_not_per_input(tmp_path: Path) -> None:
    """LitData gets stuck at 0 % with a partial that binds a large object (litData#299)."""
    blob = bytes(30_000_000)
    optimize(partial(sized, blob), range(400), tmp_path, num_workers=2, unit_size=10)
    assert xs(tmp_path) == [i + len(blob) for i in range(400)]


def test_many_small_inputs_do_not_slow_down(tmp_path: Path) -> None:
    """The time of LitData per sample grew with their number (litData#119, #417)."""
    snapshot = optimize(number_of, [str(i) for i in range(60_000)], tmp_path, num_workers=2)
    assert snapshot.rows == 60_000
    assert len(snapshot.shards) <= 32


def test_all_workers_have_ended_when_optimize_returns(tmp_path: Path) -> None:
    """LitData returns before its workers have finished (litData#575)."""
    optimize(number, range(200), tmp_path, num_workers=2, unit_size=3)
    assert not [p for p in multiprocessing.active_children() if "SpawnProcess" in type(p).__name__]
    assert not list(tmp_path.glob("**/.*"))
    assert xs(tmp_path) == list(range(200))


def test_as_many_workers_as_cpus_that_this_process_may_use() -> None:
    """LitData counted the machine's CPUs where a cluster had given it two (litData#417)."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert usable_cpus() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_a_negative_number_of_workers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="num_workers must be 0 or more, got -1"):
        optimize(number, range(3), tmp_path, num_workers=-1)


@pytest.mark.parametrize("name", ["chunk_size", "batch_size", "unit_size"])
def test_a_size_of_nothing_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        optimize(number, range(3), tmp_path, **{name: 0})  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_workers_start_by_any_method(tmp_path: Path, method: str) -> None:
    optimize(number, range(10), tmp_path, num_workers=1, start_method=method)  # type: ignore[arg-type]
    assert xs(tmp_path) == list(range(10))


def test_two_attempts_of_one_unit_count_once(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    job = open_job(store, "key", unit_size=5, dataset_id=None, since=0, shared=True)
    unit = ListedUnits(range(5), borders_by_count(5, 5), True)[0]
    task = SamplesTask(fn=number, job=job, layout=Layout(1 << 20))
    first = task.run(unit, None)
    task.run(unit, None)
    assert [path for path, _ in store.list("shards")] == [f"shards/{first.shards[0].file}"]


def test_a_worker_that_dies_while_it_starts_is_replaced(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    job = open_job(store, "key", unit_size=5, dataset_id=None, since=0, shared=False)
    units = ListedUnits(range(5), borders_by_count(5, 5), True)
    pool = Pool(SamplesTask(fn=number, job=job, layout=Layout(1 << 20)), 1, Patience(), "forkserver")
    start, killed = pool._start, list[int]()  # pyright: ignore[reportPrivateUsage]

    def start_and_kill() -> object:
        worker = start()
        if not killed:
            killed.append(worker.process.pid or 0)
            worker.process.kill()
        return worker

    pool._start = start_and_kill  # type: ignore[method-assign,assignment]
    assert [done.unit for done in pool.run(PlannedFeed(units), None)] == [0]
    assert killed


def forkservers() -> list[int]:
    """The processes of this one that start workers."""
    children = Path("/proc/self/task").glob("*/children")
    pids = [int(pid) for file in children for pid in file.read_text().split()]
    return [pid for pid in pids if b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_a_killed_forkserver_is_started_anew_and_nothing_is_lost(tmp_path: Path) -> None:
    killed: list[int] = []

    def report(done: int, total: int | None) -> None:
        if done >= 20 and not killed:
            killed.extend(forkservers())
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    optimize(number, range(200), tmp_path, num_workers=2, unit_size=5, progress=report)
    assert killed
    assert xs(tmp_path) == list(range(200))
