"""Samples are found by key: a column, a path or a function; duplicates follow the policy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blixt.data import (
    Dataset,
    DatasetWriter,
    KeyNotFoundError,
    SchemaError,
    ShardReader,
    ShardWriter,
    Tokens,
    index_keys,
)
from blixt.data.key_index import collect_keys, open_keys
from blixt.data.key_of import key_bytes, key_hash
from blixt.data.key_segment import Entries, Segment, write_segment
from blixt.data.keys import Keys
from blixt.data.manifest import KeysInfo
from blixt.data.shard.info import ShardInfo
from blixt.data.shard.table import ShardTable
from blixt.data.snapshot import load, publish
from blixt.data.store import LocalStore

from .samples import write_dataset


def write_keyed(
    folder: Path, parts: list[list[Any]], key: Any, mode: Any = "error", duplicates: str = "error"
) -> None:
    """Publish one shard for each list of samples, with keys noted by its writer."""
    store = LocalStore(folder)
    known = load(store).dataset_id if mode == "append" else None
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    infos = []
    for number, samples in enumerate(parts):
        path = folder / "shards" / f"{mode}-{number}.shard"
        with ShardWriter(path, dataset_id=known, key=key) as writer:
            known = writer.dataset_id
            for sample in samples:
                writer.write(sample)
        infos.append(writer.close())
    assert known is not None
    assert writer.schema is not None
    keys = collect_keys(store, infos, key, known, duplicates=duplicates)
    publish(store, known, writer.schema, infos, mode, keys=keys)


def found(folder: Path, key: Any) -> Any:
    keys = open_keys(folder, load(folder))
    assert keys is not None
    return Dataset(folder)[keys.find(key)]


def by_first_letter(sample: Any) -> str:
    return sample["name"][0]


@pytest.mark.parametrize(
    ("key", "wanted"),
    [("name", "bea"), ("meta.id", 7), ("meta.raw", b"\7"), (by_first_letter, "b"), ("pair.1", 7)],
)
def test_a_sample_is_found_by_a_column_a_path_or_a_function(tmp_path: Path, key: Any, wanted: Any) -> None:
    samples = [
        {"name": name, "meta": {"id": i, "raw": bytes([i])}, "pair": (0, i)}
        for i, name in ((3, "adam"), (7, "bea"), (9, "carl"))
    ]
    write_keyed(tmp_path, [samples[:1], samples[1:]], key)
    assert found(tmp_path, wanted) == samples[1]
    assert sorted(path.suffix for path in (tmp_path / "shards").iterdir()) == [".shard", ".shard"]


def test_keys_are_found_through_the_dataset(tmp_path: Path) -> None:
    write_keyed(tmp_path, [[{"name": "adam", "n": 1}], [{"name": "bea", "n": 2}]], "name")
    dataset = Dataset(tmp_path, shuffle=True)
    assert dataset["bea"] == {"name": "bea", "n": 2}
    assert dataset.get("adam") == {"name": "adam", "n": 1}
    with pytest.raises(KeyNotFoundError, match="no sample with key 'carl'"):
        dataset["carl"]


def test_a_dataset_without_keys_says_how_to_get_some(tmp_path: Path) -> None:
    write_dataset(tmp_path, [{"name": "adam"}])
    with pytest.raises(KeyNotFoundError, match="has no keys"):
        Dataset(tmp_path)["adam"]


def test_a_missing_key_is_an_error_that_is_a_key_error(tmp_path: Path) -> None:
    write_keyed(tmp_path, [[{"name": "adam"}]], "name")
    with pytest.raises(KeyError, match="no sample with key 'eve'"):
        found(tmp_path, "eve")
    with pytest.raises(TypeError, match="a key must be a str, an int or bytes, got float"):
        found(tmp_path, 1.5)


def test_keys_of_different_types_are_different(tmp_path: Path) -> None:
    assert len({key_bytes("7"), key_bytes(7), key_bytes(b"7")}) == 3
    assert key_bytes(np.int32(7)) == key_bytes(7)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"name": 1.5}, "sample 0: it has no key 'name' .*must be a str, an int or bytes, got float"),
        ({"other": "x"}, "sample 0: it has no key 'name' .*KeyError"),
    ],
)
def test_a_sample_without_the_key_is_refused(tmp_path: Path, sample: Any, message: str) -> None:
    with pytest.raises(SchemaError, match=message), ShardWriter(tmp_path / "a.shard", key="name") as writer:
        writer.write(sample)


def test_the_same_key_twice_is_an_error_by_default(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="key 'adam' occurs more than once"):
        write_keyed(tmp_path, [[{"name": "adam"}], [{"name": "adam"}]], "name")
    write_keyed(tmp_path / "b", [[{"name": "adam"}]], "name")
    with pytest.raises(SchemaError, match="key 'adam' occurs more than once"):
        write_keyed(tmp_path / "b", [[{"name": "adam"}]], "name", "append")
    assert load(tmp_path / "b").version == 1


@pytest.mark.parametrize(("duplicates", "number"), [("first", 0), ("last", 2)])
def test_of_several_samples_of_a_key_the_policy_chooses(tmp_path: Path, duplicates: str, number: int) -> None:
    parts = [[{"name": "a", "n": 0}, {"name": "b", "n": 9}], [{"name": "a", "n": 1}]]
    write_keyed(tmp_path, parts, "name", duplicates=duplicates)
    write_keyed(tmp_path, [[{"name": "a", "n": 2}]], "name", "append", duplicates)
    assert found(tmp_path, "a")["n"] == number
    keys = open_keys(tmp_path, load(tmp_path))
    assert keys is not None
    assert keys.find_all("a") == [0, 2, 3]
    assert "b" in keys
    assert "c" not in keys


def test_many_appends_keep_the_number_of_segments_small(tmp_path: Path) -> None:
    write_keyed(tmp_path, [[{"n": 0}]], "n")
    for n in range(1, 20):
        store = LocalStore(tmp_path)
        base = load(store)
        path = tmp_path / "shards" / f"more-{n}.shard"
        with ShardWriter(path, dataset_id=base.dataset_id, key="n") as writer:
            writer.write({"n": n})
        keys = collect_keys(store, [writer.close()], "n", base.dataset_id)
        publish(store, base.dataset_id, base.schema, [writer.close()], "append", keys=keys)
    snapshot = load(tmp_path)
    assert snapshot.keys is not None
    assert len(snapshot.keys.segments) <= 16
    assert [found(tmp_path, n)["n"] for n in range(20)] == list(range(20))


def test_an_append_without_the_key_is_refused(tmp_path: Path) -> None:
    write_keyed(tmp_path, [[{"name": "a"}]], "name")
    with (
        pytest.raises(
            SchemaError, match=r"its keys are \('name', 'error'\) and those of the new samples None"
        ),
        DatasetWriter(tmp_path, mode="append") as writer,
    ):
        writer.write({"name": "b"})


@pytest.mark.parametrize("column", ["x", "nothing", "t"])
def test_a_column_that_cannot_be_the_key_is_refused(tmp_path: Path, column: str) -> None:
    write_dataset(tmp_path, [{"x": 1.5, "t": Tokens([1])}])
    with pytest.raises(SchemaError, match=f"column '{column}' cannot be the key"):
        index_keys(tmp_path, column)
    with pytest.raises(ValueError, match="duplicates must be one of error, first, last"):
        index_keys(tmp_path, column, duplicates="all")


@given(st.lists(st.one_of(st.text(max_size=3), st.integers(-9, 9), st.binary(max_size=2)), max_size=40))
@settings(max_examples=30, deadline=None)
def test_every_key_is_found_and_no_other(tmp_path_factory: Any, keys: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("keys")
    entries = Entries(
        ["a", "b"],
        [i % 2 for i in range(len(keys))],
        [i // 2 for i in range(len(keys))],
        [key_bytes(key) for key in keys],
    )
    info = write_segment(folder / "x.keys", entries, None, None)
    half = -(-len(keys) // 2)
    shards = ShardTable.of(ShardInfo(name, half, 1, 0, {}) for name in "ab")
    opened = Keys(KeysInfo(None, "first", (info,)), shards, lambda file: ShardReader(folder / file))
    for key in {*keys, "not there", 99, b"\0\0\0"}:
        expected = sorted(
            i % 2 * half + i // 2 for i, one in enumerate(keys) if key_bytes(one) == key_bytes(key)
        )
        assert opened.find_all(key) == expected


def test_a_lookup_reads_one_block_of_a_large_segment(tmp_path: Path) -> None:
    count = 150_000
    entries = Entries(["a"], [0] * count, range(count), [b"i%d" % i for i in range(count)])
    write_segment(tmp_path / "x.keys", entries, None, None)
    reader = ShardReader(tmp_path / "x.keys")
    assert len(reader.meta["fences"]) == 2
    segment = Segment(reader, {"a": 0}, np.array([0, count]))
    for i in (0, 1, 77_777, count - 1):
        stored = key_bytes(i)
        assert segment.rows(stored, key_hash(stored)) == [i]
