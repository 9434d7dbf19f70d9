"""Damage anywhere in any file is an error that names it; it never becomes a wrong sample."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blixt.data import (
    CorruptionError,
    DataError,
    Dataset,
    DatasetNotFoundError,
    DatasetWriter,
    Encryption,
    index_keys,
    verify,
)
from blixt.data.key_index import open_keys
from blixt.data.snapshot import load

from .every import FORMS, KEY, every, open_bytes, shard_bytes
from .samples import same

ROWS = 5


@pytest.fixture(scope="module", params=FORMS)
def shard(request: pytest.FixtureRequest) -> bytes:
    return shard_bytes([every(i) for i in range(ROWS)], **FORMS[request.param])


def read_all(data: bytes) -> list[Any]:
    reader = open_bytes(data)
    return [reader.sample(row) for row in range(reader.rows)]


def notices(damaged: bytes) -> bool:
    """Whether checking the whole file finds something, and says which file, section and bytes."""
    try:
        problems = [str(problem) for problem in open_bytes(damaged).problems()]
    except DataError as problem:
        problems = [str(problem)]
    return bool(problems) and all("a.shard" in problem for problem in problems)


def test_every_byte_of_a_shard_counts(shard: bytes) -> None:
    # One flip at every position: about 3,000 shards are read, which takes some seconds.
    whole = read_all(shard)
    for position in range(len(shard)):
        damaged = bytearray(shard)
        damaged[position] ^= 1 << position % 8
        try:
            assert all(map(same, whole, read_all(bytes(damaged)))), f"byte {position} changed a sample"
        except DataError as problem:
            if "a.shard" not in str(problem):
                raise
        assert notices(bytes(damaged)), f"a flip of byte {position} was not noticed"


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_any_damage_to_a_shard_is_noticed(shard: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(shard) - 1))
    new = data.draw(st.binary(min_size=1, max_size=40))[: len(shard) - start]
    damaged = shard[:start] + new + shard[start + len(new) :]
    assert damaged == shard or notices(damaged)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_shard_that_was_cut_short_is_noticed(shard: bytes, data: st.DataObject) -> None:
    with pytest.raises(DataError, match=r"a\.shard"):
        open_bytes(shard[: data.draw(st.integers(0, len(shard) - 1))])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with two shards, keys and every file that there is."""
    path = tmp_path_factory.mktemp("data") / "set"
    for first, mode in ((0, "error"), (2, "append")):
        with DatasetWriter(path, mode=mode) as writer:  # type: ignore[arg-type]
            for i in range(first, first + 2):
                writer.write(every(i))
    index_keys(path, "text")
    return path


def flipped(folder: Path, tmp_path: Path, name: str, position: int) -> Path:
    copy = tmp_path / f"copy-{position}"
    shutil.copytree(folder, copy, copy_function=lambda a, b: Path(b).symlink_to(a))
    data = bytearray((folder / name).read_bytes())
    data[position] ^= 1
    (copy / name).unlink()
    (copy / name).write_bytes(data)
    return copy


@pytest.mark.parametrize(
    "kind", ["index.bin", "index.json", "versions/1.json", "versions/3.json", "keys", "shards"]
)
def test_a_flipped_byte_in_any_file_is_named(folder: Path, tmp_path: Path, kind: str) -> None:
    path = folder / kind
    name = kind if path.is_file() else f"{kind}/{next(path.iterdir()).name}"
    size = (folder / name).stat().st_size
    whole = Dataset(folder, decode=False)[:]
    for position in range(0, size, max(1, size // 23)):
        copy = flipped(folder, tmp_path, name, position)
        try:
            report = verify(copy)
            assert any(Path(name).name in problem for problem in report.problems), (name, position)
        except DataError as problem:
            if Path(name).name not in str(problem):
                raise
        try:
            assert all(map(same, whole, Dataset(copy, decode=False)[:]))
            keys = open_keys(copy, load(copy))
            assert keys is not None
            assert keys.find(whole[3]["text"]) == 3
        except DataError as problem:
            if Path(name).name not in str(problem):
                raise


def test_verify_names_every_damaged_block_of_every_file(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    first, second = sorted((copy / "shards").iterdir())
    for file, positions in ((first, (100, 600)), (second, (100,))):
        data = bytearray(file.read_bytes())
        for position in positions:
            data[position] ^= 1
        file.write_bytes(data)
    problems = verify(copy).problems
    assert len(problems) == 3
    assert all("is damaged, bytes" in problem for problem in problems)
    assert sum(first.name in problem for problem in problems) == 2


def test_a_short_a_missing_and_a_replaced_shard_are_named(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    first, second = sorted((copy / "shards").iterdir())
    first.write_bytes(second.read_bytes())
    assert any(first.name in p and "another one than the version names" in p for p in verify(copy).problems)
    with pytest.raises(CorruptionError, match=first.name):
        Dataset(copy, decode=False)[:]
    first.write_bytes(second.read_bytes()[:-1])
    assert any(first.name in p and "cut short" in p for p in verify(copy).problems)
    first.unlink()
    assert any(first.name in p and "is missing" in p for p in verify(copy).problems)
    with pytest.raises((DatasetNotFoundError, CorruptionError), match=first.name):
        Dataset(copy, decode=False)[:]


def test_a_damaged_encrypted_dataset_is_checked_with_its_key(tmp_path: Path) -> None:
    path = tmp_path / "set"
    with DatasetWriter(path, encrypt=Encryption(KEY, "k1")) as writer:
        writer.write(every(1))
    assert verify(path, key=KEY).ok
    shard = next((path / "shards").iterdir())
    data = bytearray(shard.read_bytes())
    data[70] ^= 1
    shard.write_bytes(data)
    assert "block 0 of heap is damaged, bytes 64 to" in verify(path, key=KEY).problems[0]
