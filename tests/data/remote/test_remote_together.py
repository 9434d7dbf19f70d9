"""Batches of stored bytes from a store are looked up together while their blocks still arrive."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blixt.data import CorruptionError, Dataset, Loader
from blixt.data.store import open_store

from ..samples import write_dataset
from ..servers.faulty import Fault, FaultyProxy
from ..servers.seaweed import S3
from .places import fetched, size_of, upload

COUNT, BATCH = 400, 8


def stored(i: int) -> dict[str, Any]:
    """A sample of which a batch holds the bytes as they are, and a number."""
    return {"jpeg": random.Random(i).randbytes(10_000 + i % 500), "label": i}


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four shards of about 1 MB."""
    samples = [stored(i) for i in range(COUNT)]
    return write_dataset(tmp_path_factory.mktemp("together") / "bytes", samples, chunk_bytes="1MB")


@pytest.fixture(scope="module")
def far(s3: S3, near: Path) -> str:
    address = s3.location()
    upload(near, open_store(address, credentials=s3.credentials, options=s3.options))
    return address


def labels_of(loader: Loader) -> list[int]:
    """Read an epoch, compare every value, and return the labels."""
    labels: list[int] = []
    for batch in loader:
        found = batch["label"].tolist()
        assert [bytes(value) for value in batch["jpeg"]] == [stored(label)["jpeg"] for label in found]
        labels += found
    return labels


@pytest.mark.parametrize("workers", [1, 2])
def test_a_cold_and_a_warm_epoch_are_the_one_of_the_folder(
    near: Path, far: str, access: dict[str, Any], workers: int
) -> None:
    expected = labels_of(Loader(Dataset(near, shuffle=True), BATCH, mode="inline"))
    for _ in range(2):
        dataset = Dataset(far, shuffle=True, **access)
        assert labels_of(Loader(dataset, BATCH, mode="threads", workers=workers)) == expected


def test_a_bad_network_changes_no_sample(far: str, access: dict[str, Any], proxy: FaultyProxy) -> None:
    faults: tuple[Fault, ...] = ("503", "drop", "short", "corrupt", "reset")
    proxy.faults.extend(faults)  # fewer than the tries of one request, should it meet all of them
    assert sorted(labels_of(Loader(Dataset(far, shuffle=True, **access), BATCH))) == [*range(COUNT)]
    assert len([request for request in proxy.requests if request.fault]) == len(faults)


@pytest.mark.parametrize("cache_bytes", [1, "500KB", "3MB"])
def test_a_cache_that_takes_files_back_changes_no_sample(
    far: str, access: dict[str, Any], cache_bytes: int | str
) -> None:
    dataset = Dataset(far, shuffle=cache_bytes == "3MB", cache_bytes=cache_bytes, **access)
    assert sorted(labels_of(Loader(dataset, BATCH))) == [*range(COUNT)]


@pytest.mark.parametrize("read_before", [COUNT, 1], ids=["whole", "begun"])
@pytest.mark.parametrize("views", [False, True])
def test_a_flipped_byte_anywhere_in_a_cached_file_changes_no_sample(
    far: str, access: dict[str, Any], cache_dir: Path, read_before: int, views: bool
) -> None:
    Dataset(far, **access).read_batch(range(read_before))
    path = min(cache_dir.rglob("*.shard-*"))
    header, marks = (0, 9, 17, 21, 23), (4096, 4096 + 30, 4096 + 60)
    dice = random.Random(5)
    for position in (*header, *marks, *(dice.randrange(1 << 16, path.stat().st_size) for _ in range(8))):
        with open(path, "r+b") as file:
            file.seek(position)
            byte = file.read(1)
            file.seek(position)
            file.write(bytes([byte[0] ^ 1]))
        assert labels_of(Loader(Dataset(far, **access), BATCH, views=views)) == [*range(COUNT)], position


def test_a_batch_waits_for_its_own_blocks_only(
    near: Path, far: str, access: dict[str, Any], proxy: FaultyProxy
) -> None:
    found = Dataset(far, **access).batches(np.arange(COUNT), BATCH)
    assert found is not None
    next(found)
    assert fetched(proxy) < size_of(near) / 2
    assert len(list(found)) == COUNT // BATCH - 1


def test_what_is_left_when_the_cache_takes_a_file_back_is_read_batch_by_batch(
    far: str, access: dict[str, Any]
) -> None:
    dataset = Dataset(far, **access)
    found = dataset.batches(np.arange(40), BATCH)
    assert found is not None
    assert next(found)["label"].tolist() == [*range(BATCH)]
    dataset.shards[0].close()
    assert list(found) == []
    assert labels_of(Loader(dataset, BATCH)) == [*range(COUNT)]


def test_bytes_that_always_arrive_damaged_stop_the_epoch_and_name_the_block(
    far: str, access: dict[str, Any], proxy: FaultyProxy
) -> None:
    dataset = Dataset(far, **access)
    dataset[0]
    proxy.always = "corrupt"
    with pytest.raises(CorruptionError, match=r"s3://test/.*\.shard.* block \d+ .*bytes \d+ to \d+"):
        labels_of(Loader(dataset, BATCH))
