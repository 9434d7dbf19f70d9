"""Batches that are looked up together are the ones read one by one, and damage shows at its own step."""

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from blixt.data import CorruptionError, Dataset, DatasetWriter, Loader
from blixt.data.loader.threads import threaded
from blixt.data.steps import Steps
from blixt.data.together import Due, Part, Stored, unchecked

ROWS, BATCH = 403, 8


def sample(i: int) -> dict[str, Any]:
    return {"a": bytes([i % 251]) * (2000 + i), "label": i, "b": b"%d" % i}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("together") / "d", chunk_bytes=300_000)


def written(folder: Path, **options: Any) -> Path:
    with DatasetWriter(folder, **options) as writer:
        for i in range(ROWS):
            writer.write(sample(i))
    return folder


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("end", ["drop_last", "pad", "even"])
def test_an_epoch_is_the_same_in_threads_as_inline(folder: Path, workers: int, end: Any) -> None:
    inline = Loader(Dataset(folder, shuffle=True, window=2), BATCH, end=end, mode="inline")
    threads = Loader(Dataset(folder, shuffle=True, window=2), BATCH, end=end, mode="threads", workers=workers)
    for expected, batch in zip(inline, threads, strict=True):
        assert (batch["a"], batch["b"]) == (expected["a"], expected["b"])
        np.testing.assert_array_equal(batch["label"], expected["label"])


def test_rows_of_a_few_shards_are_looked_up_together(folder: Path) -> None:
    dataset = Dataset(folder)
    found = dataset.batches(np.arange(20), BATCH)
    assert found is not None
    assert [batch["label"].tolist() for batch in found] == [
        [*range(8)],
        [*range(8, 16)],
        [*range(16, 20)],
    ]


@pytest.mark.parametrize("views", [False, True])
def test_stored_bytes_are_copied_or_viewed_when_their_batch_is_taken(folder: Path, views: bool) -> None:
    seen = 0
    for batch in Loader(Dataset(folder, decode=False), BATCH, mode="threads", views=views):
        assert all(type(value) is (memoryview if views else bytes) for value in batch["a"])
        assert [bytes(value) for value in batch["a"]] == [sample(i)["a"] for i in batch["label"]]
        seen += len(batch["a"])
    assert seen == ROWS // BATCH * BATCH


def test_a_block_is_checked_once_and_before_the_first_batch_that_needs_it() -> None:
    class Shard:
        source = None

        def lacking(self, blocks: Any) -> Any:
            return np.flatnonzero(blocks != 9)

    rows = np.arange(6)
    blocks = np.array([9, 3, 1, 3, 9, 2])
    part = Part(cast("Any", Shard()), rows, np.array([0, 1, 3, 4, 5, 7]), blocks)
    assert unchecked([part], range(0, 8, 2)) == [{0: [3]}, {0: [1]}, {}, {0: [2]}]


def test_a_batch_is_checked_with_all_before_it_whoever_takes_it_first() -> None:
    seen: list[Any] = []

    class Shards:
        def check(self, due: Any) -> None:
            seen.append(due)

    due = Due(cast("Any", Shards()), [{0: [3]}, {0: [1]}, {}, {0: [2]}])
    due.check(1)
    due.check(0)
    due.check(3)
    assert seen == [{0: [3]}, {0: [1]}, {}, {0: [2]}]


def test_a_batch_that_did_not_pass_is_checked_again() -> None:
    class Shards:
        def check(self, due: Any) -> None:
            if due == {0: [1]}:
                raise CorruptionError("damaged")

    due = Due(cast("Any", Shards()), [{0: [3]}, {0: [1]}, {}])
    for batch in (1, 2, 1):
        with pytest.raises(CorruptionError):
            due.check(batch)


@pytest.mark.parametrize("seed", range(6))
def test_a_thread_runs_further_ahead_only_while_batches_lie_in_place(seed: int) -> None:
    """And it comes to no standstill, however the two kinds of batches alternate."""
    dice = random.Random(seed)
    kinds = [kind for _ in range(30) for kind in [dice.random() < 0.5] * dice.randrange(1, 60)]
    read = Counter[str]()

    class Lane:
        dataset = SimpleNamespace(row_bytes=1.0)

        def batches(self, steps: Steps, chosen: range) -> Iterator[Any]:
            for step in chosen:
                read["batches"] += 1
                yield Stored([], [], [], [], lambda: None) if kinds[step] else step

        def finish(self, steps: Steps, step: int, batch: Any) -> Any:
            return batch

    steps = Steps(len(kinds), 1)
    for step, batch in threaded(cast("Any", Lane()), steps, threads=1, prefetch=3, timeout_s=60):
        assert batch == step or kinds[step]
        in_memory = sum(not kind for kind in kinds[step + 1 : read["batches"]])
        assert in_memory <= 3, "what takes memory is read no further ahead than prefetch says"
        assert read["batches"] - step - 1 <= 64
    assert read["batches"] == len(kinds)


def test_an_array_of_a_batch_has_memory_of_its_own(folder: Path) -> None:
    found = Dataset(folder).batches(np.arange(20), BATCH)
    assert found is not None
    assert next(found)["label"].base is None


def test_packed_rows_are_read_batch_by_batch(tmp_path: Path) -> None:
    assert Dataset(written(tmp_path / "d", compress="zstd")).batches(np.arange(20), BATCH) is None


@pytest.mark.parametrize("views", [False, True])
@pytest.mark.parametrize("away_s", [-1.0, 1e9], ids=["checked ahead", "checked by the consumer"])
def test_a_damaged_block_stops_the_epoch_at_the_step_that_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, away_s: float, views: bool
) -> None:
    monkeypatch.setattr("blixt.data.loader.threads._AWAY_S", away_s)
    folder = written(tmp_path / "d")
    damaged = 150
    shard = next((folder / "shards").iterdir())
    data = bytearray(shard.read_bytes())
    at = data.index(sample(damaged)["a"])
    data[at + 1000] ^= 1
    shard.write_bytes(data)
    seen: list[int] = []

    def read() -> None:
        for batch in Loader(Dataset(folder), BATCH, mode="threads", views=views):
            assert [bytes(value) for value in batch["a"]] == [sample(i)["a"] for i in batch["label"]]
            seen.extend(batch["label"].tolist())

    with pytest.raises(CorruptionError, match="block") as caught:
        read()
    step = len(seen) // BATCH
    assert seen == [*range(step * BATCH)]
    assert damaged - 32 <= len(seen) <= damaged, "batches of whole blocks were held back"
    assert any(f"(step {step})" in note for note in caught.value.__notes__)
