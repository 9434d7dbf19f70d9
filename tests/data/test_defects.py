"""What goes wrong elsewhere, reported by users of other libraries, and cannot go wrong here."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blixt.data import DataError, Dataset, DatasetWriter, SchemaError, ShardReader, ShardWriter

from .every import open_bytes, shard_bytes
from .samples import same, write_dataset


class Bomb:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["BLIXT_TEST_BOMB"],)


def test_an_unknown_object_is_refused_and_never_pickled_silently(tmp_path: Path) -> None:
    for value in (object(), {1, 2}, Bomb(), lambda: 0, np.array([object()])):
        with pytest.raises(SchemaError, match="field 'x': cannot store"):
            write_dataset(tmp_path, [{"x": value}])
    assert not list(tmp_path.glob("**/*.shard"))


def test_bytes_that_are_a_pickle_are_read_as_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLIXT_TEST_BOMB", str(tmp_path / "bomb"))
    content = pickle.dumps(Bomb())
    assert Dataset(write_dataset(tmp_path / "set", [{"x": content}]))[0]["x"] == content
    assert not (tmp_path / "bomb").exists()


def test_dicts_of_plain_values_are_read_at_random(tmp_path: Path) -> None:
    # Elsewhere such samples are stored twice, and reading one by its number fails from object stores.
    samples = [{"id": i, "name": f"n{i}", "raw": bytes([i]), "ok": True, "score": i / 2} for i in range(200)]
    dataset = Dataset(write_dataset(tmp_path, samples, chunk_bytes=700))
    assert all(same(samples[i], dataset[i]) for i in np.random.default_rng(0).permutation(200).tolist())


def test_a_flipped_byte_never_gives_a_wrong_sample() -> None:
    # Elsewhere 4 of 10 flips gave a wrong sample without an error. test_damage.py flips every byte there is.
    samples = [{"x": np.arange(6, dtype=np.float32) + i, "text": f"t{i}"} for i in range(9)]
    shard = shard_bytes(samples)
    for position in range(0, len(shard), 7):
        damaged = bytearray(shard)
        damaged[position] ^= 0xFF
        try:
            reader = open_bytes(bytes(damaged))
            read = [reader.sample(row) for row in range(reader.rows)]
        except DataError:
            continue
        assert all(map(same, samples, read))


@pytest.mark.parametrize(
    "other",
    [
        {"x": 1, "y": 2},
        {"x": "1"},
        {"x": 1.0},
        {"x": True},
        {"x": None},
        {"x": [1]},
        {"y": 1},
        {},
        1,
        [{"x": 1}],
    ],
)
def test_samples_of_mixed_schemas_are_refused_at_the_sample_that_differs(tmp_path: Path, other: Any) -> None:
    path = tmp_path / "a.shard"
    with ShardWriter(path) as writer:
        writer.write({"x": 1})
        with pytest.raises(SchemaError, match=r"^sample 1"):
            writer.write(other)
        writer.write({"x": 3})
    assert [ShardReader(path).sample(row)["x"] for row in range(2)] == [1, 3]


def test_shards_of_other_columns_cannot_join_a_dataset(tmp_path: Path) -> None:
    write_dataset(tmp_path, [{"x": 1}])
    with pytest.raises(SchemaError, match="'x'"), DatasetWriter(tmp_path, mode="append") as writer:
        writer.write({"x": "text"})


def test_a_dict_whose_keys_come_in_another_order_is_the_same_sample(tmp_path: Path) -> None:
    dataset = Dataset(write_dataset(tmp_path, [{"a": 1, "b": 2}, {"b": 20, "a": 10}]))
    assert dataset[1] == {"a": 10, "b": 20}


@pytest.mark.parametrize("sample", [{"x": {1: 2}}, {"x": {"y": {("a",): 1}}}])
def test_keys_of_dicts_that_are_no_text_are_refused(tmp_path: Path, sample: Any) -> None:
    with pytest.raises(SchemaError, match="dict keys must be strings"):
        write_dataset(tmp_path, [sample])


def test_a_sample_that_contains_itself_is_refused(tmp_path: Path) -> None:
    loop: dict[str, Any] = {}
    loop["me"] = loop
    with pytest.raises(SchemaError, match="nested too deeply, or contains itself"):
        write_dataset(tmp_path, [loop])


def test_the_overhead_on_disk_is_below_half_a_percent_for_small_images(tmp_path: Path) -> None:
    payload = [os.urandom(15_000) for _ in range(200)]
    write_dataset(tmp_path, [{"image": image, "label": i} for i, image in enumerate(payload)])
    on_disk = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert on_disk <= 1.005 * (sum(map(len, payload)) + 8 * len(payload))
