"""What `optimize` and `DatasetWriter` hand on to the shards: compression, encryption, keys, pickles."""

from pathlib import Path
from typing import Any

import pytest

from blixt.data import Dataset, DatasetWriter, SchemaError, optimize, verify
from blixt.data.crypto import Encryption
from blixt.data.types import Pickle

from .functions import number


def named(i: int) -> dict[str, Any]:
    return {"name": f"n{i}", "x": i, "text": "blixt " * 200}


def name_of(sample: dict[str, Any]) -> str:
    return "key of " + sample["name"]


@pytest.mark.parametrize("workers", [0, 2])
def test_shards_are_compressed(tmp_path: Path, workers: int) -> None:
    plain = optimize(named, range(200), tmp_path / "plain", num_workers=workers)
    small = optimize(named, range(200), tmp_path / "small", num_workers=workers, compress="zstd:3")
    assert small.size_bytes < plain.size_bytes / 5
    assert list(Dataset(tmp_path / "small")) == list(Dataset(tmp_path / "plain"))


@pytest.mark.parametrize("key", ["name", name_of])
def test_rows_are_found_by_key_after_build_and_append(tmp_path: Path, key: Any) -> None:
    prefix = "" if key == "name" else "key of "
    optimize(named, range(50), tmp_path, num_workers=2, key=key)
    optimize(named, range(50, 80), tmp_path, num_workers=0, key=key, mode="append")
    with DatasetWriter(tmp_path, key=key, mode="append") as writer:
        writer.write(named(80))
    dataset = Dataset(tmp_path)
    assert [dataset[f"{prefix}n{i}"]["x"] for i in (0, 49, 50, 79, 80)] == [0, 49, 50, 79, 80]
    assert not list((tmp_path / "shards").glob("*.keys"))


def test_a_key_that_occurs_twice_is_refused_and_can_be_mended(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="n3"):
        optimize(named, [1, 2, 3, 3], tmp_path, num_workers=0, key="name")
    assert not (tmp_path / "versions").exists()
    assert not list(tmp_path.glob("keys/*"))
    optimize(named, [1, 2, 3], tmp_path, num_workers=0, key="name")
    assert Dataset(tmp_path)["n3"]["x"] == 3


def test_the_last_row_of_a_key_counts_when_asked(tmp_path: Path) -> None:
    optimize(named, [1, 2, 1], tmp_path, num_workers=0, key="name", key_duplicates="last")
    assert Dataset(tmp_path)["n1"]["x"] == 1
    assert len(Dataset(tmp_path)) == 3


def test_shards_are_encrypted(tmp_path: Path) -> None:
    secret = Encryption(bytes(range(32)), key_id="k1")
    optimize(named, range(20), tmp_path, num_workers=2, encrypt=secret)
    stored = b"".join(path.read_bytes() for path in (tmp_path / "shards").iterdir())
    assert b"blixt blixt" not in stored
    assert verify(tmp_path, key=bytes(range(32))).ok


def pickled(i: int) -> dict[str, Any]:
    return {"x": Pickle({i, i + 1})}


def test_pickles_need_to_be_allowed(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="allow_pickle"):
        optimize(pickled, range(3), tmp_path, num_workers=0)
    optimize(pickled, range(3), tmp_path, num_workers=1, allow_pickle=True)
    assert Dataset(tmp_path, allow_pickle=True)[1] == {"x": {1, 2}}


def test_no_mode_is_the_careful_one(tmp_path: Path) -> None:
    optimize(number, range(3), tmp_path, num_workers=0, mode=None)
    assert len(Dataset(tmp_path)) == 3
