"""What reading from a store asks of it: little to begin, nothing twice, nothing that is here."""

from pathlib import Path
from typing import Any

import pytest

from blixt.data import Dataset, DatasetNotFoundError, Loader
from blixt.data.store import PermissionDeniedError

from ..samples import same
from ..servers.faulty import FaultyProxy
from ..servers.seaweed import S3
from .places import ROWS, SPAWN, fetched, photo, size_of


def test_opening_asks_for_the_index_and_for_no_shard(
    location: str, access: dict[str, Any], proxy: FaultyProxy
) -> None:
    Dataset(location, **access)
    assert len(proxy.requests) <= 2
    assert proxy.gets(".shard") == []


def test_one_sample_costs_the_end_of_its_shard_once_and_then_one_request(
    location: str, access: dict[str, Any], proxy: FaultyProxy
) -> None:
    dataset = Dataset(location, **access)
    dataset[0]
    asked = len(proxy.requests)
    assert same(dataset[99], photo(99))
    assert len(proxy.requests) - asked <= 1


def test_the_first_batch_needs_a_part_of_its_shard(
    large: str, access: dict[str, Any], proxy: FaultyProxy
) -> None:
    dataset = Dataset(large, **access)
    dataset.read_batch(range(32))
    assert fetched(proxy) < 3_000_000 < 15_000_000 < dataset.shards.snapshot.size_bytes


def test_an_epoch_fetches_every_byte_at_most_about_once_in_few_requests(
    location: str, folder: Path, access: dict[str, Any], proxy: FaultyProxy
) -> None:
    for _ in Loader(Dataset(location, shuffle=True, **access), 32, end="pad"):
        pass
    assert fetched(proxy) <= 1.1 * size_of(folder)
    assert len(proxy.gets(".shard")) <= 40


def test_what_was_read_before_is_read_again_without_a_request(
    location: str, access: dict[str, Any], proxy: FaultyProxy
) -> None:
    first = [sample["label"] for sample in Dataset(location, **access)]
    asked = len(proxy.gets(".shard"))
    assert [sample["label"] for sample in Dataset(location, **access)] == first
    assert len(proxy.gets(".shard")) == asked


def test_workers_that_share_shards_do_not_fetch_them_twice(
    location: str, folder: Path, access: dict[str, Any], proxy: FaultyProxy
) -> None:
    with SPAWN.Pool(2) as pool:
        halves = pool.starmap(labels_of, [(location, access, rank) for rank in range(2)])
    assert sorted(halves[0] + halves[1]) == list(range(ROWS))
    assert fetched(proxy) <= 1.2 * size_of(folder)


def test_wrong_credentials_are_refused_when_the_dataset_is_opened(
    location: str, access: dict[str, Any]
) -> None:
    access["credentials"] = {**access["credentials"], "secret_access_key": "wrong"}
    with pytest.raises(PermissionDeniedError, match="the store refused the credentials"):
        Dataset(location, **access)


def test_an_address_without_a_dataset_says_so(s3: S3, access: dict[str, Any]) -> None:
    with pytest.raises(DatasetNotFoundError, match="holds no blixt dataset"):
        Dataset(s3.location(), **access)


def labels_of(location: str, access: dict[str, Any], rank: int) -> list[int]:
    dataset = Dataset(location, shuffle=True, rank=rank, world_size=2, **access)
    return [sample["label"] for sample in dataset]
