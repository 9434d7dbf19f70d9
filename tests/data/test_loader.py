"""A loader gives the same batches in every mode, and says what went wrong where."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blixt.data import DataError, Dataset, Loader, LoaderError
from blixt.data.loader import Mode

from . import loader_functions as functions
from .loader_functions import Numbers
from .samples import mixed, same, write_dataset

ROWS = 100
MODES: list[Mode] = ["inline", "threads", "processes"]


def batches(loader: Loader) -> list[list[int]]:
    return [batch["x"].tolist() for batch in loader]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), [mixed(i) for i in range(ROWS)], chunk_bytes=3000)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("workers", [1, 3])
def test_every_mode_gives_the_same_batches_in_the_same_order(mode: Mode, workers: int) -> None:
    straight = Numbers(ROWS, shuffle=True).order.at(np.arange(ROWS))
    loader = Loader(Numbers(ROWS, shuffle=True), 8, mode=mode, workers=workers, end="even")
    assert np.concatenate(batches(loader)).tolist() == straight.tolist()
    assert len(loader) == 13
    loader.close()


@pytest.mark.parametrize("mode", MODES)
def test_every_kind_of_leaf_arrives_alike_in_every_mode(folder: Path, mode: Mode) -> None:
    loader = Loader(Dataset(folder), 10, mode=mode, workers=2)
    for first, batch in enumerate(loader):
        expected = Dataset(folder).read_batch(range(10 * first, 10 * first + 10))
        assert same(batch, expected)
    loader.close()


@pytest.mark.parametrize("mode", MODES)
def test_what_a_transform_makes_of_samples_becomes_a_batch_alike_in_every_mode(mode: Mode) -> None:
    loader = Loader(Numbers(ROWS), 10, mode=mode, workers=2, transform=functions.every_kind)
    batch = next(iter(loader))
    assert same(batch["array"], np.stack([np.full((3, 2), i, np.float32) for i in range(10)]))
    assert same(batch["number"], np.arange(10) / 2)
    assert same(batch["flag"], np.arange(10) % 2 == 0)
    assert batch["text"] == ["blå" * (i % 3) for i in range(10)]
    assert batch["raw"] == [bytes(range(i % 5)) for i in range(10)]
    assert [part.tolist() for part in batch["ragged"]] == [list(range(i % 4)) for i in range(10)]
    assert same(batch["pair"][0], np.arange(10, dtype=np.int16))
    assert same(batch["pair"][1][0], np.arange(10))
    assert batch["pair"][1][1] == [str(i) for i in range(10)]
    assert batch["none"] == [None] * 10
    loader.close()


def test_the_mode_follows_from_workers_and_user_code() -> None:
    data = Numbers(ROWS)
    assert Loader(data, 8).mode == "threads"
    assert Loader(data, 8, prefetch=0).mode == "inline"
    assert Loader(data, 8, workers=2).mode == "threads"
    assert Loader(data, 8, workers=2, transform=functions.double).mode == "processes"
    assert Loader(data, 8, transform=functions.double).mode == "threads"


@pytest.mark.parametrize("mode", MODES)
def test_a_transform_may_leave_rows_out_and_resume_stays_exact(mode: Mode) -> None:
    loader = Loader(Numbers(ROWS), 10, mode=mode, workers=2, transform=functions.keep_even)
    iterator = iter(loader)
    begun = [next(iterator)["x"].tolist() for _ in range(3)]
    assert begun[0] == [0, 2, 4, 6, 8]
    resumed = Loader(Numbers(ROWS), 5, transform=functions.keep_even)
    resumed.load_state_dict(loader.state_dict())
    seen = begun + batches(resumed)
    assert [x for batch in seen for x in batch] == list(range(0, ROWS, 2))
    loader.close()


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_of_which_nothing_is_left_is_not_handed_out(mode: Mode) -> None:
    loader = Loader(Numbers(ROWS), 10, mode=mode, workers=2, transform=functions.keep_none_below_16)
    assert batches(loader)[0] == [16, 17, 18, 19]
    loader.close()


@pytest.mark.parametrize("mode", MODES)
def test_an_error_in_a_transform_keeps_its_type_and_names_the_row(mode: Mode) -> None:
    loader = Loader(Numbers(ROWS), 10, mode=mode, workers=2, transform=functions.fail_at_13)
    iterator = iter(loader)
    next(iterator)
    with pytest.raises(KeyError, match="no thirteen") as caught:
        next(iterator)
    notes = "\n".join(caught.value.__notes__)
    assert "in transform, with row 13 (step 1)" in notes
    if mode == "processes":
        assert "fail_at_13" in notes  # the worker's own traceback
    loader.close()


@pytest.mark.parametrize("mode", MODES)
def test_an_error_in_a_batch_transform_names_the_rows(mode: Mode) -> None:
    loader = Loader(Numbers(ROWS), 10, mode=mode, workers=1, batch_transform=functions.fail_batch)
    with pytest.raises(ZeroDivisionError) as caught:
        next(iter(loader))
    assert "rows 0, 1, 2, 3, 4, 5, 6, 7, ... (step 0)" in caught.value.__notes__[0]
    loader.close()


def test_an_exception_that_cannot_travel_arrives_as_text() -> None:
    loader = Loader(Numbers(ROWS), 10, workers=1, transform=functions.fail_strangely)
    with pytest.raises(LoaderError, match="Unpicklable: cannot travel"):
        next(iter(loader))
    loader.close()


def test_after_an_error_the_loader_goes_on_with_the_next_epoch() -> None:
    loader = Loader(Numbers(ROWS), 10, workers=2, transform=functions.fail_at_13)
    with pytest.raises(KeyError):
        list(loader)
    assert next(iter(loader))["x"].tolist() == list(range(10))
    loader.close()


@pytest.mark.parametrize(
    ("transform", "how"),
    [(functions.die_at_13, "signal SIGKILL"), (functions.leave_at_13, "left with exit code 7")],
)
def test_a_worker_that_dies_is_named_with_the_step(transform: Any, how: str) -> None:
    loader = Loader(Numbers(ROWS), 10, workers=2, transform=transform)
    with pytest.raises(LoaderError, match=rf"loader worker 1 \(pid \d+\) died at step 1: .*{how}"):
        list(loader)
    assert batches(Loader(Numbers(ROWS), 10))[0] == list(range(10))


def test_a_worker_that_hangs_is_named_with_the_place_where_it_does() -> None:
    loader = Loader(Numbers(ROWS), 10, workers=2, transform=functions.hang_at_13, timeout_s=3)
    with pytest.raises(
        LoaderError, match=r"worker 1 \(pid \d+\) gave no batch for 3 s at step 1 \(rows 10, 11"
    ) as caught:
        list(loader)
    assert "in hang_at_13" in str(caught.value)


def test_a_thread_that_hangs_is_an_error_and_not_a_wait_for_ever() -> None:
    loader = Loader(Numbers(ROWS), 10, mode="threads", transform=functions.hang_at_13, timeout_s=2)
    with pytest.raises(LoaderError, match=r"gave no batch for 2 s at step 1"):
        list(loader)


def test_what_cannot_be_sent_to_a_process_is_said() -> None:
    loader = Loader(Numbers(ROWS), 10, workers=1, transform=lambda sample: sample)
    with pytest.raises(LoaderError, match=r"cannot be sent to worker processes .*mode='threads'"):
        next(iter(loader))


def test_arbitrary_objects_are_pickled_with_one_warning() -> None:
    loader = Loader(Numbers(ROWS), 10, workers=2, transform=functions.to_thing)
    with pytest.warns(UserWarning, match=r"\.thing\.0 is a Thing and is pickled") as warned:
        values = [thing.x for batch in loader for thing in batch["thing"]]
    assert values == list(range(ROWS))
    assert len(warned) == 1
    loader.close()


def test_a_batch_larger_than_a_slot_still_arrives() -> None:
    loader = Loader(Numbers(ROWS), 10, workers=2, transform=functions.big, slot_bytes=1 << 14)
    with pytest.warns(UserWarning, match="does not fit into the slot"):
        seen = [int(x) for batch in loader for x in batch["x"][:, 0]]
    assert seen == list(range(ROWS))
    loader.close()


def test_batches_stay_valid_however_many_are_held() -> None:
    loader = Loader(Numbers(1000), 10, mode="processes", workers=2)
    held = list(loader)
    assert [batch["x"].tolist() for batch in held] == [list(range(i, i + 10)) for i in range(0, 1000, 10)]
    loader.close()
    assert held[3]["x"].tolist() == list(range(30, 40))


def test_a_held_view_keeps_its_slot_and_gives_it_back() -> None:
    loader = Loader(Numbers(1000), 10, mode="processes", workers=1)
    iterator = iter(loader)
    view = next(iterator)["x"][3:5]
    for _ in zip(range(50), iterator, strict=False):
        assert view.tolist() == [3, 4]
    loader.close()


def test_views_are_memoryviews_in_every_mode(folder: Path) -> None:
    for mode in MODES:
        loader = Loader(Dataset(folder), 10, mode=mode, workers=1, views=True)
        raw = next(iter(loader))["raw"]
        assert {type(value) for value in raw} == {memoryview}
        assert [bytes(value) for value in raw] == [mixed(i)["raw"] for i in range(10)]
        loader.close()


def test_workers_live_on_from_epoch_to_epoch_and_end_with_the_loader() -> None:
    loader = Loader(Numbers(40), 10, workers=2, batch_transform=functions.with_pid)
    first, second = ({batch["pid"] for batch in loader} for _ in range(2))
    assert first == second
    assert len(first) == 2
    loader.close()
    assert not [pid for pid in first if Path(f"/proc/{pid}").exists()]


def test_a_loop_that_is_left_does_not_disturb_the_next_one() -> None:
    loader = Loader(Numbers(1000), 10, mode="processes", workers=3, prefetch=3)
    for _ in range(5):
        for _ in zip(range(2), loader, strict=False):
            pass
    assert batches(loader) == [list(range(i, i + 10)) for i in range(0, 1000, 10)]
    loader.close()


@pytest.mark.parametrize("mode", MODES)
def test_random_transforms_are_the_same_on_any_topology(mode: Mode) -> None:
    def noise(loader: Loader) -> dict[int, float]:
        pairs = [
            pair
            for batch in loader
            for pair in zip(batch["x"].tolist(), batch["noise"].tolist(), strict=True)
        ]
        loader.close()
        return dict(pairs)

    data = Numbers(ROWS, shuffle=True, seed=3)
    once = noise(Loader(data, 10, mode=mode, workers=2, transform=functions.noisy, random=True, end="even"))
    twice: dict[int, float] = {}
    for rank in range(3):
        part = Numbers(ROWS, shuffle=True, seed=3, rank=rank, world_size=3)
        twice |= noise(Loader(part, 7, mode="inline", transform=functions.noisy, random=True, end="even"))
    assert once == twice
    assert len(set(once.values())) == ROWS
    assert (
        noise(Loader(data, 10, transform=functions.noisy, random=True, end="even")) != once
    )  # another epoch


histories = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.integers(1, 12),
        st.integers(1, 5),
        st.sampled_from(["inline", "threads"]),
        st.integers(0, 2),
    ),
    max_size=5,
)


@given(histories, st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_history_of_ranks_batches_workers_and_modes_reads_each_row_once(
    history: Any, shuffle: bool
) -> None:
    straight = Numbers(211, shuffle=shuffle, seed=7).order.at(np.arange(211)).tolist()
    seen: list[int] = []
    state: Any = None
    for world, batch, steps, mode, workers in [*history, (1, 8, None, "inline", 0)]:
        ranks: list[list[list[int]]] = []
        for rank in range(world):
            data = Numbers(211, shuffle=shuffle, seed=7, rank=rank, world_size=world)
            loader = Loader(data, batch, mode=mode, workers=workers, end="even")
            if state is not None:
                loader.load_state_dict(state)
            count = 10**6 if steps is None else min(steps, (211 - len(seen)) // (world * batch))
            ranks.append([part["x"].tolist() for _, part in zip(range(count), loader, strict=False)])
            after = loader.state_dict()
        if ranks[0]:
            state = after
        seen += [x for step in zip(*ranks, strict=True) for part in step for x in part]
        if len(seen) == 211:
            break
    assert seen == straight


def test_processes_resume_exactly_under_another_topology() -> None:
    straight = Numbers(300, shuffle=True).order.at(np.arange(300)).tolist()
    loader = Loader(Numbers(300, shuffle=True), 16, mode="processes", workers=2, prefetch=4)
    begun = [x for _, batch in zip(range(5), loader, strict=False) for x in batch["x"].tolist()]
    state = loader.state_dict()
    loader.close()
    parts = []
    for rank in range(2):
        other = Loader(Numbers(300, shuffle=True, rank=rank, world_size=2), 11, mode="processes", workers=1)
        other.load_state_dict(state)
        parts.append(batches(other))
        other.close()
    rest = [x for step in zip(*parts, strict=True) for part in step for x in part]
    assert begun + rest == straight[: len(begun) + len(rest)]


def test_the_dataset_hears_of_rows_before_they_are_read_and_in_order() -> None:
    data = Numbers(4096, shuffle=True)
    first = next(iter(Loader(data, 8, mode="inline")))["x"].tolist()
    assert data.planned[:8] == first
    assert len(data.planned) == len(set(data.planned)) >= 512


def test_nothing_is_left_when_the_parent_is_killed() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        script = Path(scratch) / "main.py"
        script.write_text(
            "import sys\n"
            "from blixt.data import Loader\n"
            "from tests.data import loader_functions as functions\n"
            "if __name__ == '__main__':\n"
            "    loader = Loader(functions.Numbers(10**6), 10, workers=2, "
            "batch_transform=functions.with_pid)\n"
            "    iterator = iter(loader)\n"
            "    print(*{next(iterator)['pid'] for _ in range(4)}, flush=True)\n"
            "    sys.stdin.read()\n"
        )
        root = Path(__file__).parents[2]
        with subprocess.Popen(
            [sys.executable, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(root)},
        ) as parent:
            assert parent.stdout is not None
            pids = [int(word) for word in parent.stdout.readline().split()]
            assert len(pids) == 2
            maps = [Path(f"/proc/{pid}/maps").read_text() for pid in (parent.pid, *pids)]
            watched = [os.pidfd_open(pid) for pid in pids]
            parent.send_signal(signal.SIGKILL)
            parent.wait(60)
        for descriptor in watched:
            assert ended(descriptor, 60)
        assert all("memfd:blixt-loader" in text for text in maps)
        assert not any("/dev/shm/" in text for text in maps)  # nothing that has a name to be left behind


def ended(descriptor: int, timeout_s: float) -> bool:
    """Wait for a process to end; its descriptor becomes readable then."""
    import select

    try:
        return bool(select.select([descriptor], [], [], timeout_s)[0])
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "process"}, "mode must be one of auto, inline, threads, processes, got 'process'"),
        ({"workers": -1}, "workers and prefetch must not be negative"),
        ({"timeout_s": 0}, "timeout_s and slot_bytes must be positive"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"end": "drop"}, "end must be one of drop_last, pad, even"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Loader(Numbers(10), **{"batch_size": 4, **arguments})


def test_a_state_of_another_order_algorithm_is_refused() -> None:
    loader = Loader(Numbers(10, shuffle=True), 2)
    with pytest.raises(DataError, match="saved with order algorithm 1"):
        loader.load_state_dict({**loader.state_dict(), "order": 1})


def test_pinning_without_a_gpu_is_refused() -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        batch = next(iter(Loader(Numbers(10), 4, pin=True)))
        assert batch["x"].is_pinned()
        assert batch["x"].tolist() == [0, 1, 2, 3]
        return
    with pytest.raises(LoaderError, match="pin=True needs a GPU, and torch sees none"):
        next(iter(Loader(Numbers(10), 4, pin=True)))


def test_a_pinned_batch_keeps_its_tree_and_what_is_no_array(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    loader = Loader(Numbers(20), 4, pin=True, transform=functions.every_kind, mode="inline")
    batches = list(loader)
    assert len(batches) == 5
    assert torch.is_tensor(batches[0]["array"])
    assert batches[1]["text"] == ["blå" * (i % 3) for i in range(4, 8)]
    assert torch.is_tensor(batches[0]["pair"][0])
