"""Versions: append, overwrite, merge, update, delete and prune, on a folder and on a real S3 server."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blixt.data import (
    ConflictError,
    DataError,
    Dataset,
    DatasetExistsError,
    DatasetNotFoundError,
    KeyNotFoundError,
    SchemaError,
    ShardWriter,
    Tokens,
    delete,
    index_keys,
    info,
    merge,
    prune,
    statistics,
    update,
    verify,
)
from blixt.data.key_index import open_keys
from blixt.data.place import as_store
from blixt.data.snapshot import commit, find_job, load, publish
from blixt.data.store import LocalStore, Store, open_store

from .samples import same


def sample(i: int, text: str | None = None) -> dict[str, Any]:
    return {
        "id": i,
        "text": text or f"text {i}",
        "x": np.full(3, i, np.float32),
        "t": Tokens([i] * (i % 4), "uint16"),
    }


def write(store: Store, folder: Path, parts: list[list[int]], mode: Any = "error", **options: Any) -> Any:
    """Publish one shard for each list of ids."""
    known = load(store).dataset_id if mode == "append" else None
    infos = []
    for number, ids in enumerate(parts):
        path = folder / f"{mode}-{number}-{ids[0]}.shard"
        with ShardWriter(path, dataset_id=known) as writer:
            for i in ids:
                writer.write(sample(i))
        infos.append(writer.close())
        store.put_file(f"shards/{path.name}", path)
    schema = writer.schema
    assert schema is not None
    return publish(store, known or writer.dataset_id, schema, infos, mode, **options)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return LocalStore(tmp_path / "set")


def ids(place: Any, version: int | None = None) -> list[int]:
    return [one["id"] for one in Dataset(place, version=version)[:]]


def by_key(place: Path, key: Any) -> Any:
    keys = open_keys(place, load(place))
    assert keys is not None
    return Dataset(place)[keys.find(key)]


def place_of(store: Store) -> Path:
    assert store.local is not None
    return store.local


def test_an_append_shares_the_shards_of_the_version_before(store: Store, tmp_path: Path) -> None:
    first = write(store, tmp_path, [[0, 1], [2]])
    second = write(store, tmp_path, [[3]], "append")
    assert second.shards[:2] == first.shards[:]
    assert (ids(place_of(store), 1), ids(place_of(store))) == ([0, 1, 2], [0, 1, 2, 3])
    assert second.dataset_id == first.dataset_id


def test_an_overwrite_keeps_the_old_version_readable(store: Store, tmp_path: Path) -> None:
    write(store, tmp_path, [[0, 1]])
    write(store, tmp_path, [[5]], "overwrite")
    assert (ids(place_of(store), 1), ids(place_of(store))) == ([0, 1], [5])


def test_a_second_dataset_needs_a_mode(store: Store, tmp_path: Path) -> None:
    write(store, tmp_path, [[0]])
    with pytest.raises(DatasetExistsError, match="choose mode='append' or mode='overwrite'"):
        write(store, tmp_path, [[1]])


def test_an_append_of_other_columns_is_refused_with_their_names(store: Store, tmp_path: Path) -> None:
    base = write(store, tmp_path, [[0]])
    with ShardWriter(tmp_path / "b.shard") as writer:
        writer.write({"id": 1.5})
    assert writer.schema is not None
    with pytest.raises(
        SchemaError, match="'id' is int and not float, 't' is tokens of uint16 and not absent"
    ):
        publish(store, base.dataset_id, writer.schema, [writer.close()], "append")


def test_a_job_is_published_once_however_often_it_commits(store: Store, tmp_path: Path) -> None:
    first = write(store, tmp_path, [[0]], job="build-7")
    again = publish(store, first.dataset_id, first.schema, list(first.shards), "error", job="build-7")
    assert again == first
    assert find_job(store, "build-7") == first
    assert find_job(store, "build-7", since=1) is None
    assert load(store).version == 1


def test_a_commit_that_loses_the_race_is_made_again_upon_the_winner(store: Store, tmp_path: Path) -> None:
    base = write(store, tmp_path, [[0]])
    asked = []

    def change(latest: Any) -> Any:
        asked.append(latest.version)
        if len(asked) == 1:
            write(store, tmp_path, [[1]], "append")
        return type(latest)(
            base.dataset_id, latest.version + 1, base.schema, latest.shards, latest.created_at, "mine"
        )

    assert commit(store, change).version == 3
    assert asked == [1, 2]


def test_a_reader_finds_the_newest_version_though_index_bin_is_older(store: Store, tmp_path: Path) -> None:
    write(store, tmp_path, [[0]])
    stale = store.get("index.bin")
    write(store, tmp_path, [[1]], "append")
    write(store, tmp_path, [[2]], "append")
    store.put("index.bin", stale)
    assert load(store).version == 3
    store.delete("index.bin")
    assert load(store).version == 3


def test_pruning_keeps_what_the_kept_versions_share(store: Store, tmp_path: Path) -> None:
    write(store, tmp_path, [[0], [1]])
    write(store, tmp_path, [[2]], "append")
    assert prune(place_of(store)) == []
    write(store, tmp_path, [[3]], "overwrite")
    assert len(prune(place_of(store))) == 3
    assert ids(place_of(store)) == [3]
    with pytest.raises(DatasetNotFoundError, match="has no version 1; it has 3"):
        load(store, 1)


def test_an_update_replaces_samples_by_key_and_rewrites_only_their_shards(
    store: Store, tmp_path: Path
) -> None:
    write(store, tmp_path, [[0, 1, 2], [3, 4], [5]])
    before = index_keys(place_of(store), "id")
    after = update(place_of(store), {4: sample(4, "new"), 3: sample(3, "newer")})
    shared = set(before.shards.files()) & set(after.shards.files())
    assert len(shared) == 2
    read = Dataset(place_of(store))[:]
    assert [one["text"] for one in read] == ["text 0", "text 1", "text 2", "newer", "new", "text 5"]
    assert all(same(sample(i), one) for i, one in enumerate(Dataset(place_of(store), version=1)[:]))
    assert all(map(same, [sample(0), sample(5)], [read[0], read[5]]))
    assert verify(place_of(store)).ok


def test_keys_are_found_after_any_number_of_updates(store: Store, tmp_path: Path) -> None:
    write(store, tmp_path, [[0, 1, 2], [3, 4]])
    index_keys(place_of(store), "text")
    for round_number in range(3):
        update(place_of(store), {"text 1": sample(10 * round_number, "text 1")})
        assert by_key(place_of(store), "text 1")["id"] == 10 * round_number
        assert by_key(place_of(store), "text 4")["id"] == 4


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        ({9: sample(9)}, KeyNotFoundError, "no sample with key 9"),
        ({0: sample(1)}, SchemaError, "key 0 has key 1 in it"),
        ({0: {"id": 0}}, SchemaError, "the new sample of key 0: the sample should be a dict with keys"),
    ],
)
def test_an_update_that_does_not_fit_changes_nothing(
    store: Store, tmp_path: Path, samples: Any, error: Any, message: str
) -> None:
    write(store, tmp_path, [[0, 1]])
    index_keys(place_of(store), "id")
    with pytest.raises(error, match=message):
        update(place_of(store), samples)
    assert load(store).version == 2


def test_a_dataset_without_keys_says_how_to_get_some(store: Store, tmp_path: Path) -> None:
    write(store, tmp_path, [[0, 1]])
    with pytest.raises(KeyNotFoundError, match="give it keys with index_keys"):
        update(place_of(store), {0: sample(0)})


def test_an_update_goes_through_beside_an_append_and_refuses_to_undo_another_update(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(store, tmp_path, [[0, 1], [2]])
    index_keys(place_of(store), "id", duplicates="last")
    put = LocalStore.put_file
    meanwhile: list[Any] = []

    def put_while_another_writes(self: LocalStore, path: str, local: Path) -> None:
        put(self, path, local)
        if meanwhile:
            meanwhile.pop()()

    monkeypatch.setattr(LocalStore, "put_file", put_while_another_writes)
    meanwhile.append(lambda: delete(place_of(store), rows=[2]))
    assert update(place_of(store), {0: sample(0, "new")}).rows == 2
    meanwhile.append(lambda: update(place_of(store), {1: sample(1, "theirs")}))
    with pytest.raises(ConflictError, match="another writer changed shard"):
        update(place_of(store), {0: sample(0, "mine")})
    assert [one["text"] for one in Dataset(place_of(store))[:]] == ["new", "theirs"]


def test_rows_are_left_out_by_key_by_number_and_by_content(store: Store, tmp_path: Path) -> None:
    write(store, tmp_path, [[0, 1, 2], [3, 4], [5]])
    index_keys(place_of(store), "id")
    delete(place_of(store), keys=[1], rows=[-1], where=lambda one: one["text"] == "text 3")
    assert ids(place_of(store)) == [0, 2, 4]
    assert [by_key(place_of(store), 2)["id"], by_key(place_of(store), 4)["id"]] == [2, 4]
    with pytest.raises(KeyNotFoundError, match="no sample with key 1"):
        by_key(place_of(store), 1)
    assert verify(place_of(store)).ok
    with pytest.raises(DataError, match="nothing would be left"):
        delete(place_of(store), where=lambda one: True)
    with pytest.raises(IndexError, match="row 3 is out of range: the dataset has 3"):
        delete(place_of(store), rows=[3])


def test_datasets_are_merged_in_order_without_writing_their_shards_anew(tmp_path: Path) -> None:
    for name, parts in (("a", [[0], [1, 2]]), ("b", [[3]]), ("c", [[4]])):
        (tmp_path / f"{name}-made").mkdir()
        write(LocalStore(tmp_path / name), tmp_path / f"{name}-made", parts)
        index_keys(tmp_path / name, "id")
    merged = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "all")
    assert merged.rows == 4
    merge([tmp_path / "c"], tmp_path / "all", mode="append")
    assert ids(tmp_path / "all") == [0, 1, 2, 3, 4]
    assert by_key(tmp_path / "all", 3)["text"] == "text 3"
    assert verify(tmp_path / "all").ok
    first = as_store(tmp_path / "a").local
    assert first is not None
    assert next((first / "shards").iterdir()).stat().st_nlink == 2
    with pytest.raises(SchemaError, match="key 3 occurs more than once"):
        merge([tmp_path / "b", tmp_path / "b"], tmp_path / "twice")


def test_shards_of_the_same_name_do_not_overwrite_each_other_in_a_merge(tmp_path: Path) -> None:
    for name, first in (("a", 0), ("b", 1)):
        (tmp_path / f"{name}-made").mkdir()
        (tmp_path / f"{name}-made" / "x").mkdir()
        with ShardWriter(tmp_path / f"{name}-made" / "same.shard") as writer:
            writer.write(sample(first))
        assert writer.schema is not None
        store = LocalStore(tmp_path / name)
        store.put_file("shards/same.shard", tmp_path / f"{name}-made" / "same.shard")
        publish(store, writer.dataset_id, writer.schema, [writer.close()], "error")
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "all")
    assert ids(tmp_path / "all") == [0, 1]


def test_everything_works_on_a_real_object_store(s3: Any, tmp_path: Path) -> None:
    store = open_store(s3.location(), credentials=s3.credentials, options=s3.options)
    write(store, tmp_path, [[0, 1], [2, 3]])
    index_keys(store, "id")
    update(store, {1: sample(1, "new")})
    delete(store, keys=[3])
    write_other = open_store(s3.location(), credentials=s3.credentials, options=s3.options)
    merge([store], write_other)
    report = verify(write_other)
    assert (report.problems, report.rows) == ([], 3)
    merge([write_other], LocalStore(tmp_path / "here"))
    assert [one["text"] for one in Dataset(tmp_path / "here")[:]] == ["text 0", "new", "text 2"]
    assert by_key(tmp_path / "here", 2)["id"] == 2
    assert statistics(store)["id"] == {"bytes": 24, "min": 0, "max": 2}
    assert info(store)["column_bytes"]["id"] == 24
    assert len(prune(store)) == 2
    assert load(store).rows == 3
