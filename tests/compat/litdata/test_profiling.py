"""The loader's profiling: cProfile of what getting batches costs, and a trace of some of them in worker 0."""

import json
import pickle
import pstats
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from blixt.compat.litdata import StreamingDataLoader, StreamingDataset, optimize
from blixt.compat.litdata.core.profiling import InWorker, Profiling
from compat.litdata import recipes


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("numbers"))
    optimize(recipes.number, list(range(60)), folder, chunk_size=10, num_workers=0)
    return folder


def plus_one(x: int) -> int:
    return x + 1


def dataset(numbers: str) -> StreamingDataset:
    return StreamingDataset(numbers, transform=plus_one)


def calls(file: Path, function: str) -> int:
    """Return how often a function was called, as cProfile counted."""
    found = pstats.Stats(str(file)).get_stats_profile().func_profiles
    return int(found[function].ncalls) if function in found else 0


def consume(batch: Any) -> int:
    return len(batch)


def test_cprofile_counts_what_reading_calls_and_not_what_is_done_with_batches(
    numbers: str, tmp_path: Path
) -> None:
    loader = StreamingDataLoader(
        dataset(numbers), batch_size=4, profile_cprofile=True, profile_dir=str(tmp_path / "here")
    )
    assert sum(consume(batch) for batch in loader) == 60
    assert calls(tmp_path / "here" / "cprofile_main.prof", "plus_one") == 60
    assert calls(tmp_path / "here" / "cprofile_main.prof", "consume") == 0
    assert "function calls" in (tmp_path / "here" / "cprofile_main.txt").read_text()


def test_cprofile_counts_what_worker_0_calls(numbers: str, tmp_path: Path) -> None:
    loader = StreamingDataLoader(
        dataset(numbers),
        batch_size=4,
        num_workers=2,
        profile_cprofile=True,
        profile_dir=str(tmp_path),
    )
    assert sum(len(batch) for batch in loader) == 60
    assert calls(tmp_path / "cprofile_worker0.prof", "plus_one") == 32  # eight of fifteen batches are its own
    assert calls(tmp_path / "cprofile_main.prof", "plus_one") == 0


def test_both_hooks_of_a_worker_that_is_spawned_are_of_one_object() -> None:
    hooks = InWorker(Profiling(batches=2), None, recipes.collate_one_by_one)
    init, collate = pickle.loads(pickle.dumps((hooks.init, hooks.collate)))
    assert init.__self__ is collate.__self__


def traced(file: Path, function: str) -> int:
    events = json.loads(file.read_text())["traceEvents"]
    assert all(event["ph"] == "X" and event["dur"] >= 0 for event in events)
    return sum(event["name"].startswith(f"{function} (") for event in events)


@pytest.mark.parametrize(("skip", "batches", "seen"), [(0, 2, 8), (1, 2, 8), (3, True, 20)])
def test_a_trace_holds_the_calls_of_so_many_batches(
    numbers: str, tmp_path: Path, skip: int, batches: int, seen: int
) -> None:
    loader = StreamingDataLoader(
        StreamingDataset(numbers),
        batch_size=4,
        num_workers=2,
        profile_batches=batches,
        profile_skip_batches=skip,
        profile_dir=str(tmp_path),
        collate_fn=recipes.collate_one_by_one,
    )
    assert sum(len(batch) for batch in loader) == 60
    assert traced(tmp_path / "result.json", "touch") == seen


def test_kinds_that_exclude_each_other_are_refused(numbers: str) -> None:
    with pytest.raises(ValueError, match="enable one of them"):
        StreamingDataLoader(dataset(numbers), num_workers=1, profile_batches=2, profile_cprofile=True)
    with pytest.raises(ValueError, match="num_workers >= 1"):
        StreamingDataLoader(dataset(numbers), profile_batches=2)
