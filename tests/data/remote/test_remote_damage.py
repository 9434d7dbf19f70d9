"""Damage of a remote dataset or of its copy in the cache: mended by another look, or named."""

import os
import random
from pathlib import Path
from typing import Any

import pytest

from blixt.data import CorruptionError, Dataset, DatasetNotFoundError, FormatError

from ..samples import same
from ..servers.faulty import FaultyProxy
from ..servers.seaweed import S3
from .places import copied, photo, shards_of


def test_bytes_that_arrive_damaged_are_fetched_once_more(
    location: str, access: dict[str, Any], proxy: FaultyProxy
) -> None:
    dataset = Dataset(location, **access)
    dataset[0]
    asked = len(proxy.requests)
    proxy.faults.append("corrupt")
    assert same(dataset[550], photo(550))
    proxy.faults.append("corrupt")
    assert same(dataset[150], photo(150))
    assert len(proxy.requests) - asked >= 4


def test_bytes_that_rot_in_the_cache_are_fetched_once_more(
    location: str, folder: Path, access: dict[str, Any], cache_dir: Path, proxy: FaultyProxy
) -> None:
    expected = list(Dataset(folder))
    assert all(same(*pair) for pair in zip(Dataset(location, **access), expected, strict=True))
    dice = random.Random(3)
    for path in cache_dir.rglob("*.shard-*"):
        with open(path, "r+b") as file:
            file.seek(-dice.randrange(1, min(path.stat().st_size - (1 << 16), 1 << 15)), os.SEEK_END)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
    asked = len(proxy.gets(".shard"))
    assert all(same(*pair) for pair in zip(Dataset(location, **access), expected, strict=True))
    assert len(proxy.gets(".shard")) > asked


def test_bytes_that_always_arrive_damaged_are_an_error_that_names_shard_block_and_range(
    large: str, access: dict[str, Any], proxy: FaultyProxy
) -> None:
    dataset = Dataset(large, **access)
    assert same(dataset[0], photo(0))
    proxy.always = "corrupt"
    with pytest.raises(CorruptionError, match=r"s3://test/.*\.shard.* block \d+ .*bytes \d+ to \d+"):
        dataset[1000]
    proxy.always = None
    assert same(dataset[1000], photo(1000))


def test_a_missing_shard_is_named(s3: S3, location: str, folder: Path, access: dict[str, Any]) -> None:
    store, copy = copied(s3, folder)
    victim = shards_of(store)[2]
    store.delete(victim)
    dataset = Dataset(copy, **access)
    assert same(dataset[0], photo(0))
    with pytest.raises(DatasetNotFoundError, match=f"{victim} is missing; restore"):
        dataset[250]


def test_a_shard_that_was_cut_short_is_named(s3: S3, folder: Path, access: dict[str, Any]) -> None:
    store, copy = copied(s3, folder)
    victim = shards_of(store)[0]
    store.put(victim, store.get(victim)[:-100])
    with pytest.raises((FormatError, CorruptionError), match=f"{victim} is cut short"):
        Dataset(copy, **access)[0]


def test_a_shard_that_was_replaced_is_noticed_and_once_restored_it_is_read(
    s3: S3, folder: Path, access: dict[str, Any]
) -> None:
    store, copy = copied(s3, folder)
    first, second = shards_of(store)[:2]
    right = store.get(first)
    other = store.get(second)
    wrong = other[: len(right)].ljust(len(right), b"\0") if len(other) != len(right) else other
    store.put(first, wrong)
    with pytest.raises((CorruptionError, FormatError), match=Path(first).name):
        Dataset(copy, **access)[0]
    store.put(first, right)
    assert same(Dataset(copy, **access)[0], photo(0))
