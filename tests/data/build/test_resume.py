"""A build that broke off goes on with the units that are not done, and only with those."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from blixt.data import ALL_DONE, BuildError, Dataset, DatasetExistsError, optimize
from blixt.data.build.commit import commit
from blixt.data.build.finished import Finished
from blixt.data.build.job import open_job
from blixt.data.build.task import SamplesTask
from blixt.data.snapshot import latest_version, load
from blixt.data.store import open_store

from .functions import noted_unless_broken, number


def xs(folder: Path) -> list[int]:
    return [sample["x"] for sample in Dataset(folder)]


def calls(folder: Path) -> list[int]:
    found = [int(line) for line in (folder / "calls").read_text().split()]
    (folder / "calls").unlink()
    return found


def stream(inputs: range) -> Iterator[int]:
    yield from inputs


def queue(inputs: range) -> Any:
    filled: SimpleQueue[Any] = SimpleQueue()
    for i in inputs:
        filled.put(i)
    filled.put(ALL_DONE)
    return filled


@pytest.mark.parametrize("source", [list, stream, queue])
def test_finished_units_are_not_done_again(tmp_path: Path, source: Any) -> None:
    """Generators and queues too; LitData could not resume at all, then only lists (litData#137)."""
    fn, out = partial(noted_unless_broken, tmp_path, 33), tmp_path / "out"
    with pytest.raises(BuildError, match=r"input 33 \(33\): ValueError: broken"):
        optimize(fn, source(range(40)), out, num_workers=0, unit_size=10)
    assert calls(tmp_path) == list(range(34))
    (tmp_path / "mended").touch()
    optimize(fn, source(range(40)), out, num_workers=0, unit_size=10)
    assert calls(tmp_path) == list(range(30, 40))
    assert xs(out) == list(range(40))


@pytest.mark.parametrize("source", [list, stream, queue])
def test_only_units_whose_inputs_changed_are_done_again(tmp_path: Path, source: Any) -> None:
    fn, out = partial(noted_unless_broken, tmp_path, 33), tmp_path / "out"
    with pytest.raises(BuildError):
        optimize(fn, source(range(40)), out, num_workers=0, unit_size=10)
    calls(tmp_path)
    (tmp_path / "mended").touch()
    inputs = [*range(10), *range(100, 110), *range(20, 30)]
    optimize(fn, source(inputs), out, num_workers=0, unit_size=10)
    assert calls(tmp_path) == list(range(100, 110))
    assert xs(out) == inputs
    assert len(list((out / "shards").iterdir())) == 3


def test_nothing_is_taken_over_when_asked_so(tmp_path: Path) -> None:
    fn, out = partial(noted_unless_broken, tmp_path, 33), tmp_path / "out"
    with pytest.raises(BuildError):
        optimize(fn, range(40), out, num_workers=0, unit_size=10)
    (tmp_path / "mended").touch()
    calls(tmp_path)
    optimize(fn, range(40), out, num_workers=0, unit_size=10, resume=False)
    assert calls(tmp_path) == list(range(40))
    assert len(list((out / "shards").iterdir())) == 4


def test_other_settings_begin_another_build(tmp_path: Path) -> None:
    fn, out = partial(noted_unless_broken, tmp_path, 33), tmp_path / "out"
    with pytest.raises(BuildError):
        optimize(fn, range(40), out, num_workers=0, unit_size=10)
    (tmp_path / "mended").touch()
    calls(tmp_path)
    optimize(fn, range(40), out, num_workers=0, unit_size=10, chunk_size=5)
    assert calls(tmp_path) == list(range(40))


def test_an_append_that_was_published_and_died_before_it_said_so_is_not_published_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimize(number, range(10), tmp_path, num_workers=0)

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("blixt.data.build.commit.close_job", killed)
        with pytest.raises(KeyboardInterrupt):
            optimize(number, range(10, 20), tmp_path, num_workers=0, mode="append")
    assert latest_version(tmp_path) == 2
    optimize(number, range(10, 20), tmp_path, num_workers=0, mode="append")
    assert latest_version(tmp_path) == 2
    assert xs(tmp_path) == list(range(20))
    optimize(number, range(10, 20), tmp_path, num_workers=0, mode="append")
    assert xs(tmp_path) == [*range(20), *range(10, 20)]


def test_a_first_build_that_was_published_and_died_before_it_said_so_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("blixt.data.build.commit.close_job", killed)
        with pytest.raises(KeyboardInterrupt):
            optimize(number, range(10), tmp_path, num_workers=0)
    assert optimize(number, range(10), tmp_path, num_workers=0).version == 1
    with pytest.raises(DatasetExistsError):
        optimize(number, range(10), tmp_path, num_workers=0)


@pytest.mark.parametrize("mode", ["error", "append", "overwrite"])
def test_two_nodes_that_commit_one_build_publish_it_once(tmp_path: Path, mode: Any) -> None:
    if mode != "error":
        optimize(number, range(5), tmp_path, num_workers=0)
    store, before = open_store(tmp_path), latest_version(tmp_path)
    from blixt.data.build.settings import Layout
    from blixt.data.build.units import ListedUnits, borders_by_count

    job = open_job(store, "key", unit_size=5, dataset_id=None, since=before, shared=True)
    for unit in ListedUnits(range(100, 120), borders_by_count(20, 5), True):
        SamplesTask(fn=number, job=job, layout=Layout(1 << 20)).run(unit, None)
    seen_by_both = [Finished(job), Finished(job)]
    for finished in seen_by_both:
        finished.refresh()
    snapshots = [commit(job, finished, mode, True, Layout(1 << 20)) for finished in seen_by_both]
    assert [snapshot.version for snapshot in snapshots] == [before + 1] * 2
    assert latest_version(tmp_path) == before + 1
    assert xs(tmp_path) == [*(range(5) if mode == "append" else ()), *range(100, 120)]
    assert load(tmp_path).rows == len(xs(tmp_path))
