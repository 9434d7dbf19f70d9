"""`optimize` keeps the order of its inputs, publishes once, and goes on where a broken run was."""

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blixt.data import (
    BuildError,
    Dataset,
    DatasetExistsError,
    DatasetNotFoundError,
    DatasetWriter,
    SchemaError,
    TokenDataset,
    WriteError,
    optimize,
)
from blixt.data.sizes import parse_size
from blixt.data.snapshot import load

from ..samples import mixed, same

DEADLINE_S = 60


def number(i: int) -> dict[str, int]:
    return {"x": i}


def times(i: int) -> Iterator[dict[str, int]]:
    """Yield i modulo 3 samples."""
    for _ in range(i % 3):
        yield {"x": i}


def document(i: int) -> np.ndarray[Any, Any]:
    return np.full(i, i, np.uint16)


def fail_on(bad: int, i: int) -> dict[str, int]:
    if i == bad:
        raise KeyError("no such picture")
    return {"x": i}


def log_and_fail_once(folder: Path, bad: int, i: int) -> dict[str, int]:
    with open(folder / "calls", "a") as calls:
        calls.write(f"{i}\n")
    if i == bad and not (folder / "mended").exists():
        raise ValueError("broken")
    return {"x": i}


def kill_own_process(folder: Path, always: bool, i: int) -> dict[str, int]:
    if i == 25 and (always or not (folder / "killed").exists()):
        (folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"x": i}


def large(i: int) -> dict[str, Any]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
    return {"x": bytes(200_000 if i > 5 else 10)}


def odd_one(i: int) -> dict[str, Any]:
    return {"x": "seven" if i == 7 else i}


def nothing(i: int) -> Iterator[int]:
    yield from ()


def notes(output: Path) -> list[Path]:
    """The notes of the finished units of the build that is going on."""
    return sorted(output.glob(".build/*/done/*.json"))


def xs(folder: Path) -> list[int]:
    return [sample["x"] for sample in Dataset(folder)]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_samples_keep_the_order_of_the_inputs(tmp_path: Path, workers: int) -> None:
    snapshot = optimize(number, range(1000), tmp_path, num_workers=workers, chunk_bytes=500)
    assert snapshot.rows == 1000
    assert xs(tmp_path) == list(range(1000))


def test_every_kind_of_column_passes_through_workers(tmp_path: Path) -> None:
    optimize(mixed, range(50), tmp_path, num_workers=2)
    assert all(same(mixed(i), sample) for i, sample in enumerate(Dataset(tmp_path)))


def test_a_generator_may_yield_none_one_or_several_samples(tmp_path: Path) -> None:
    optimize(times, range(100), tmp_path, num_workers=2)
    assert xs(tmp_path) == [i for i in range(100) for _ in range(i % 3)]


def test_bare_integer_arrays_become_a_token_stream(tmp_path: Path) -> None:
    optimize(document, range(1, 60), tmp_path, num_workers=2)
    assert TokenDataset(tmp_path, 100, overlap=0)[0][:6].tolist() == [1, 2, 2, 3, 3, 3]


def test_progress_is_told_to_a_callback(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    optimize(
        number, range(40), tmp_path, num_workers=2, progress=lambda done, total: told.append((done, total))
    )
    assert told[0] == (0, 40)
    assert told[-1] == (40, 40)
    assert told == sorted(told)


def test_a_second_dataset_in_the_same_place_needs_a_mode(tmp_path: Path) -> None:
    optimize(number, range(5), tmp_path, num_workers=0)
    with pytest.raises(DatasetExistsError, match="already holds a dataset; choose mode='append' or"):
        optimize(number, range(5), tmp_path, num_workers=0)
    optimize(number, range(5, 8), tmp_path, num_workers=2, mode="append")
    assert xs(tmp_path) == list(range(8))
    optimize(number, range(2), tmp_path, num_workers=0, mode="overwrite")
    assert xs(tmp_path) == [0, 1]
    with pytest.raises(ValueError, match="mode must be one of error, append, overwrite, got 'replace'"):
        optimize(number, range(5), tmp_path, mode="replace")  # type: ignore[arg-type]


def test_appending_other_columns_is_refused(tmp_path: Path) -> None:
    optimize(number, range(5), tmp_path, num_workers=0)
    with pytest.raises(SchemaError, match=r"should be a dict with keys \['x'\]"):
        optimize(mixed, range(5), tmp_path, num_workers=0, mode="append")
    assert xs(tmp_path) == list(range(5))


def test_nothing_is_published_when_the_function_fails_and_the_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"input 17 \(17\): KeyError: 'no such picture'") as caught:
        optimize(partial(fail_on, 17), range(40), tmp_path, num_workers=2)
    assert "in fail_on" in caught.value.__notes__[0]
    with pytest.raises(DatasetNotFoundError):
        Dataset(tmp_path)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_run_goes_on_from_its_finished_units(tmp_path: Path, workers: int) -> None:
    job = partial(log_and_fail_once, tmp_path, 35)
    with pytest.raises(BuildError, match=r"input 35 \(35\): ValueError: broken"):
        optimize(job, range(40), tmp_path / "out", num_workers=workers, unit_size=5)
    calls = (tmp_path / "calls").read_text().split()
    (tmp_path / "mended").touch()
    (tmp_path / "calls").write_text("")
    optimize(job, range(40), tmp_path / "out", num_workers=2, unit_size=5)
    assert xs(tmp_path / "out") == list(range(40))
    again = {int(call) for call in (tmp_path / "calls").read_text().split()}
    assert len(again) <= 15
    assert len(calls) >= 30
    assert not (tmp_path / "out" / ".build").exists()


def test_another_job_does_not_take_over_the_units_of_a_broken_one(tmp_path: Path) -> None:
    with pytest.raises(BuildError):
        optimize(partial(fail_on, 35), range(40), tmp_path, num_workers=0, unit_size=5)
    optimize(number, range(100, 120), tmp_path, num_workers=0)
    assert xs(tmp_path) == list(range(100, 120))
    named = {shard.file for shard in load(tmp_path).shards}
    assert {path.name for path in (tmp_path / "shards").iterdir()} == named


def test_a_killed_worker_costs_its_unit_another_attempt(tmp_path: Path) -> None:
    optimize(
        partial(kill_own_process, tmp_path, False), range(50), tmp_path / "out", num_workers=2, unit_size=10
    )
    assert xs(tmp_path / "out") == list(range(50))
    assert not [path for path in (tmp_path / "out" / "shards").iterdir() if path.suffix != ".shard"]


def test_a_unit_that_kills_every_worker_fails_the_job_which_can_be_resumed(tmp_path: Path) -> None:
    job = partial(kill_own_process, tmp_path)
    with pytest.raises(BuildError, match=r"unit 2 killed its worker 3 times \(exit code -9"):
        optimize(partial(job, True), range(50), tmp_path / "out", num_workers=2, unit_size=10)
    assert not (tmp_path / "out" / "versions").exists()
    optimize(partial(job, False), range(50), tmp_path / "out", num_workers=2, unit_size=10)
    assert xs(tmp_path / "out") == list(range(50))


def test_a_full_disk_is_said_and_leaves_nothing_half_made(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=r"cannot write shard .*: File too large; make room"):
        optimize(large, range(20), tmp_path, num_workers=1, unit_size=5)
    assert not (tmp_path / "versions").exists()
    assert all(path.suffix == ".shard" for path in (tmp_path / "shards").iterdir())
    assert not list((tmp_path / ".build").glob(".*.tmp"))


def test_samples_of_another_type_are_named_with_their_input(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"input 7 \(7\), sample 0, field 'x': expected int, got str"):
        optimize(odd_one, range(10), tmp_path, num_workers=1, unit_size=10)


def test_units_that_infer_different_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"expected|different columns"):
        optimize(odd_one, range(8), tmp_path, num_workers=2, unit_size=7)
    assert not (tmp_path / "versions").exists()


@pytest.mark.parametrize(
    ("fn", "inputs", "message"),
    [
        (number, [], "there are no inputs"),
        (nothing, [1, 2], "yielded no sample for any input"),
        (print, [1], "the function returned None"),
    ],
)
def test_a_job_without_samples_says_why(tmp_path: Path, fn: Any, inputs: list[int], message: str) -> None:
    with pytest.raises(BuildError, match=message):
        optimize(fn, inputs, tmp_path, num_workers=0)


def test_a_function_that_cannot_travel_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="define it at the top level of a module, or use num_workers=0"):
        optimize(lambda i: {"x": i}, range(3), tmp_path, num_workers=1)
    optimize(lambda i: {"x": i}, range(3), tmp_path, num_workers=0)


def test_an_input_that_cannot_travel_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(
        BuildError, match=r"inputs 0 to 0 cannot be sent to a worker process .* open them in the"
    ):
        optimize(str, [(i for i in "ab")], tmp_path, num_workers=1)


def test_a_script_without_a_main_guard_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"from blixt.data import optimize\noptimize(str, range(9), {str(tmp_path / 'out')!r}, num_workers=2)"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode != 0
    assert "if __name__ == '__main__'" in done.stderr


SLOW_JOB = """
    import time
    from pathlib import Path
    from blixt.data import optimize

    HERE = Path(__file__).parent

    def slow(i):
        (HERE / f"call-{i}").touch()
        deadline = time.monotonic() + 60
        while i >= 20 and not (HERE / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return {"x": i}

    if __name__ == "__main__":
        optimize(slow, range(40), HERE / "out", num_workers=2, unit_size=5)
"""


def wait_for(condition: Any, what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen in {DEADLINE_S} s"
        time.sleep(0.01)


def children_of(pid: int) -> set[int]:
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found |= {child} | children_of(child)
    return found


def test_a_killed_job_leaves_no_process_and_no_half_made_version_and_resumes(tmp_path: Path) -> None:
    script = tmp_path / "slow_job.py"
    script.write_text(textwrap.dedent(SLOW_JOB))
    job = subprocess.Popen([sys.executable, script])
    wait_for(lambda: len(notes(tmp_path / "out")) == 4, "finishing four units")
    workers = children_of(job.pid)
    with pytest.raises(BuildError, match="another process is building"):
        optimize(number, range(3), tmp_path / "out", num_workers=0)
    job.kill()
    job.wait(DEADLINE_S)
    assert not (tmp_path / "out" / "versions").exists()
    for path in tmp_path.glob("call-*"):
        path.unlink()
    (tmp_path / "go").touch()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "the end of the workers")
    subprocess.run([sys.executable, script], timeout=DEADLINE_S, check=True)
    assert xs(tmp_path / "out") == list(range(40))
    assert not [path for path in tmp_path.glob("call-*") if int(path.name[5:]) < 20]


def test_ctrl_c_ends_the_workers_and_keeps_the_finished_units(tmp_path: Path) -> None:
    script = tmp_path / "slow_job.py"
    script.write_text(textwrap.dedent(SLOW_JOB))
    job = subprocess.Popen([sys.executable, script], stderr=subprocess.PIPE, start_new_session=True)
    wait_for(lambda: len(notes(tmp_path / "out")) == 4, "finishing four units")
    workers = children_of(job.pid)
    os.killpg(job.pid, signal.SIGINT)
    _, errors = job.communicate(timeout=DEADLINE_S)
    assert errors.count(b"Traceback") == 1
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "the end of the workers")
    assert len(notes(tmp_path / "out")) == 4


def test_a_unit_whose_shard_or_note_was_lost_is_done_again(tmp_path: Path) -> None:
    job = partial(log_and_fail_once, tmp_path, 35)
    with pytest.raises(BuildError):
        optimize(job, range(40), tmp_path / "out", num_workers=0, unit_size=5)
    (tmp_path / "mended").touch()
    sorted((tmp_path / "out" / "shards").iterdir())[0].write_bytes(b"")
    notes(tmp_path / "out")[1].write_bytes(b"")
    optimize(job, range(40), tmp_path / "out", num_workers=0, unit_size=5)
    assert xs(tmp_path / "out") == list(range(40))


def append_one(folder: Path, start: Any, i: int) -> None:
    with DatasetWriter(folder, mode="append") as writer:
        writer.write({"x": i})
        start.wait(DEADLINE_S)


def test_writers_that_publish_at_the_same_time_all_succeed(tmp_path: Path) -> None:
    optimize(number, [0], tmp_path, num_workers=0)
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(4)
    writers = [context.Process(target=append_one, args=(tmp_path, start, i)) for i in range(1, 5)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(DEADLINE_S)
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert sorted(xs(tmp_path)) == list(range(5))
    assert len(list((tmp_path / "versions").iterdir())) == 5


def test_leaving_a_writer_by_an_exception_publishes_nothing(tmp_path: Path) -> None:
    def write_and_fail() -> None:
        with DatasetWriter(tmp_path, chunk_bytes=8) as writer:
            for i in range(10):
                writer.write({"x": i})
            raise KeyError

    with pytest.raises(KeyError):
        write_and_fail()
    assert not (tmp_path / "versions").exists()
    assert not list((tmp_path / "shards").iterdir())


@pytest.mark.parametrize("size", ["", "-1MB", "0", "12 parsec"])
def test_a_size_that_is_none_is_refused(size: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(size)
