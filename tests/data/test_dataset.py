"""A dataset is a sequence of samples, read one by one or in batches, in an order that resumes exactly."""

import json
import pickle
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blixt.data import (
    CorruptionError,
    DataError,
    Dataset,
    DatasetNotFoundError,
    DatasetWriter,
    Loader,
    ShardReader,
    ShardWriter,
    head,
    info,
    prune,
    verify,
)

from .samples import mixed, same, write_dataset

ROWS = 211


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), [mixed(i) for i in range(ROWS)], chunk_bytes=5000)


def test_samples_come_back_as_they_were_written(folder: Path) -> None:
    dataset = Dataset(folder)
    assert len(dataset) == ROWS
    assert all(same(mixed(i), dataset[i]) for i in range(ROWS))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"window": 0}, "window must be at least 1"),
        ({"seed": "a"}, "seed must be a whole number"),
        ({"cache_bytes": "much"}, "is not a size"),
        ({"rank": 3}, "rank must be in"),
        ({"io_threads": 0}, "io_threads must be at least 1"),
        ({"io_bytes": "some"}, "is not a size"),
        ({"unpacked_bytes": "some"}, "is not a size"),
        ({"shuffel": True}, "shuffel"),
    ],
)
def test_a_wrong_argument_is_refused_when_the_dataset_is_opened(
    folder: Path, wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=said):
        Dataset(folder, **wrong)


def test_unpacked_blocks_stay_within_what_the_dataset_was_told(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "packed", compress="zstd") as writer:
        for i in range(40):
            writer.write({"i": i, "raw": bytes([i]) * (1 << 20)})
    dataset = Dataset(tmp_path / "packed", unpacked_bytes="3MB")
    tracemalloc.start()
    for i in [*range(40), *range(40)]:
        assert dataset[i]["raw"][:1] == bytes([i])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 << 20


def test_something_that_is_no_location_is_refused() -> None:
    nothing: Any = None
    with pytest.raises(TypeError, match="a location is a path, an address"):
        Dataset(nothing)


def test_negative_indices_and_slices_work_as_in_a_list(folder: Path) -> None:
    dataset = Dataset(folder)
    assert same(mixed(ROWS - 1), dataset[-1])
    assert [sample["id"] for sample in dataset[200:-3:4]] == list(range(ROWS))[200:-3:4]
    assert dataset[5:5] == []


@pytest.mark.parametrize("index", [ROWS, -ROWS - 1])
def test_an_index_out_of_range_is_an_index_error(folder: Path, index: int) -> None:
    with pytest.raises(IndexError, match=f"index {index} is out of range: the dataset has {ROWS} items"):
        Dataset(folder)[index]


def test_a_batch_stacks_fixed_columns_and_lists_the_others_across_shards(folder: Path) -> None:
    ids = [200, 3, -1, 3, 77]
    batch = Dataset(folder).read_batch(ids)
    expected = [mixed(i % ROWS) for i in ids]
    assert same(batch["pixels"], np.stack([sample["pixels"] for sample in expected]))
    assert batch["score"].tolist() == [sample["score"] for sample in expected]
    assert batch["text"] == [sample["text"] for sample in expected]
    assert [tokens.tolist() for tokens in batch["tokens"]] == [list(range(i % ROWS % 4)) for i in ids]
    assert isinstance(batch["pair"], tuple)


def test_iteration_yields_every_sample_and_then_begins_the_next_epoch(folder: Path) -> None:
    dataset = Dataset(folder, shuffle=True)
    first, second = [s["id"] for s in dataset], [s["id"] for s in dataset]
    assert sorted(first) == sorted(second) == list(range(ROWS))
    assert first != second
    assert dataset.epoch == 2


def test_indexing_a_shuffled_dataset_follows_the_order_of_the_epoch(folder: Path) -> None:
    dataset = Dataset(folder, shuffle=True, seed=4)
    assert [dataset[i]["id"] for i in range(9)] == [s["id"] for s, _ in zip(dataset, range(9), strict=False)]


def test_a_loop_that_was_left_starts_anew(folder: Path) -> None:
    dataset = Dataset(folder)
    for _ in zip(range(10), dataset, strict=False):
        pass
    assert next(iter(dataset))["id"] == 0


def read_ids(folder: Path, state: Any, world: int, batch: int, steps: int | None) -> tuple[list[int], Any]:
    """Run some steps on `world` ranks with loaders; return the ids in order and the state."""
    seen: list[list[Any]] = []
    states = []
    for rank in range(world):
        dataset = Dataset(folder, shuffle=True, seed=7, rank=rank, world_size=world)
        loader = Loader(dataset, batch, end="even", prefetch=rank % 3)
        if state is not None:
            loader.load_state_dict(state)
        mine = []
        for _, ids in zip(range(10**9 if steps is None else steps), loader, strict=False):
            mine.append(ids["id"].tolist())
            states.append(loader.state_dict())
        seen.append(mine)
    ids = [i for step in zip(*seen, strict=True) for part in step for i in part]
    return ids, states[-1] if states else state


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 4)), max_size=4))
@settings(max_examples=25, deadline=None)
def test_a_run_that_changes_its_ranks_mid_epoch_sees_each_row_once(folder: Path, history: Any) -> None:
    straight = [s["id"] for s in Dataset(folder, shuffle=True, seed=7)]
    seen: list[int] = []
    state = None
    for world, batch, steps in history:
        steps = min(steps, (ROWS - len(seen)) // (world * batch))
        ids, state = read_ids(folder, state, world, batch, steps) if steps else ([], state)
        seen += ids
    rest, _ = read_ids(folder, state, 1, 8, None) if len(seen) < ROWS else ([], None)
    assert seen + rest == straight


def test_the_state_is_a_few_numbers_and_survives_json(folder: Path) -> None:
    dataset = Dataset(folder, shuffle=True, seed=3)
    whole = [s["id"] for s in dataset]
    dataset.set_epoch(0)
    iterator = iter(dataset)
    begun = [next(iterator)["id"] for _ in range(50)]
    state = json.loads(json.dumps(dataset.state_dict()))
    assert len(state) <= 9
    resumed = Dataset(folder)
    resumed.load_state_dict(state)
    resumed.set_epoch(0)  # a trainer names the epoch that it resumes; the position stays
    assert begun + [s["id"] for s in resumed] == whole


def test_a_state_of_other_data_is_refused(folder: Path, tmp_path: Path) -> None:
    other = Dataset(write_dataset(tmp_path, [mixed(0)]))
    with pytest.raises(DataError, match="belongs to other data: its dataset_id"):
        other.load_state_dict(Dataset(folder).state_dict())


def test_a_reader_keeps_the_version_it_opened(tmp_path: Path) -> None:
    write_dataset(tmp_path, [{"x": 1}])
    opened = Dataset(tmp_path)
    with DatasetWriter(tmp_path, mode="append") as writer:
        writer.write({"x": 2})
    assert [s["x"] for s in opened] == [1]
    assert [s["x"] for s in Dataset(tmp_path)] == [1, 2]
    assert [s["x"] for s in Dataset(tmp_path, version=1)] == [1]


def test_a_dataset_travels_to_another_process(folder: Path) -> None:
    dataset = Dataset(folder)
    assert same(dataset[3], pickle.loads(pickle.dumps(dataset))[3])


def test_ranks_come_from_the_environment_by_default(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert [s["id"] for s in Dataset(folder)][:4] == [1, 3, 5, 7]
    monkeypatch.setenv("RANK", "one")
    with pytest.raises(ValueError, match="RANK must be a whole number, got 'one'"):
        Dataset(folder)


def test_a_folder_without_a_dataset_says_so(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match="holds no blixt dataset"):
        Dataset(tmp_path / "nothing")
    with pytest.raises(DatasetNotFoundError, match="has no version 9; it has 1"):
        Dataset(write_dataset(tmp_path, [{"x": 1}]), version=9)


def test_a_missing_shard_is_found_when_it_is_needed(tmp_path: Path) -> None:
    write_dataset(tmp_path, [{"x": 1}])
    next((tmp_path / "shards").iterdir()).unlink()
    with pytest.raises(DatasetNotFoundError, match=r"\.shard is missing"):
        Dataset(tmp_path)[0]


def test_a_shard_of_another_dataset_in_its_place_is_noticed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_dataset(tmp_path / name, [{"x": 1}])
    shard, other = (next((tmp_path / name / "shards").iterdir()) for name in ("a", "b"))
    shard.write_bytes(other.read_bytes())
    with pytest.raises(CorruptionError, match="is not the one that version 1 names"):
        Dataset(tmp_path / "a")[0]


def test_a_damaged_snapshot_is_noticed(tmp_path: Path) -> None:
    write_dataset(tmp_path, [{"x": 1}])
    path = tmp_path / "versions" / "1.json"
    path.write_text(path.read_text().replace('"rows": 1', '"rows": 2', 1))
    with pytest.raises(CorruptionError, match="checksum does not match"):
        Dataset(tmp_path, version=1)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(CorruptionError, match="not complete JSON"):
        Dataset(tmp_path, version=1)


def test_info_says_what_a_dataset_holds(folder: Path) -> None:
    found = info(folder)
    assert found["rows"] == ROWS
    assert found["version"] == 1
    assert found["columns"]["pixels"] == "float32[2, 3]"
    assert found["tokens"] == {"tokens": sum(i % 4 for i in range(ROWS))}


def test_head_gives_the_first_samples(folder: Path) -> None:
    assert [sample["id"] for sample in head(folder, 3)] == [0, 1, 2]


def test_verify_passes_whole_data_and_names_what_is_damaged(tmp_path: Path) -> None:
    write_dataset(tmp_path, [mixed(i) for i in range(100)], chunk_bytes=5000)
    assert verify(tmp_path).ok
    damaged, missing = sorted((tmp_path / "shards").iterdir())[:2]
    data = bytearray(damaged.read_bytes())
    data[100] ^= 1
    damaged.write_bytes(data)
    missing.unlink()
    report = verify(tmp_path)
    assert len(report.problems) == 2
    assert damaged.name in report.problems[0]
    assert f"{missing.name} is missing" in report.problems[1]


def test_more_shards_than_open_files_allow_can_be_read(tmp_path: Path) -> None:
    write_dataset(tmp_path, [{"x": i} for i in range(60)], chunk_bytes=8)
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))\n"
        "from blixt.data import Dataset, verify\n"
        "dataset = Dataset(sys.argv[1], shuffle=True)\n"
        "assert sorted(s['x'] for s in dataset) == list(range(60)) and verify(sys.argv[1]).ok"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True, timeout=240)


def test_pruning_forgets_old_versions_and_keeps_what_newer_ones_share(tmp_path: Path) -> None:
    write_dataset(tmp_path, [{"x": 1}])
    with DatasetWriter(tmp_path, mode="append") as writer:
        writer.write({"x": 2})
    assert prune(tmp_path) == []
    with pytest.raises(DatasetNotFoundError, match="has no version 1; it has 2"):
        Dataset(tmp_path, version=1)
    with DatasetWriter(tmp_path, mode="overwrite") as writer:
        writer.write({"x": 3})
    assert len(prune(tmp_path)) == 2
    assert [s["x"] for s in Dataset(tmp_path)] == [3]
    assert len(list((tmp_path / "shards").iterdir())) == 1
    with pytest.raises(ValueError, match="keep must be at least 1"):
        prune(tmp_path, keep=0)


def test_something_that_is_no_state_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="not a state of a dataset: it lacks block_rows"):
        Dataset(folder).load_state_dict({"epoch": 1})


def test_a_fixed_column_is_mapped_and_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "a.shard"
    with ShardWriter(path) as writer:
        for i in range(1000):
            writer.write({"x": np.full(100, i)})
    column = ShardReader(path).fixed("x")
    assert column.shape == (1000, 100)
    assert not column.flags.owndata
    assert not column.flags.writeable
    assert column.ctypes.data % 64 == 0
