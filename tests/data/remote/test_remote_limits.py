"""Limits of disk and memory hold, whatever is read."""

import random
from pathlib import Path
from typing import Any

import pytest

from blixt.data import Dataset, Loader
from blixt.data.cache import Cache
from blixt.data.store import open_store

from ..samples import write_dataset
from ..servers.seaweed import S3
from .places import ROWS, SPAWN, photo, size_of, upload


@pytest.mark.parametrize("cache_bytes", [1, "500KB", "3MB"])
def test_a_cache_smaller_than_the_dataset_reads_it_all_right(
    location: str, access: dict[str, Any], cache_bytes: int | str
) -> None:
    dataset = Dataset(location, shuffle=cache_bytes == "3MB", cache_bytes=cache_bytes, **access)
    labels: list[int] = []
    for batch in Loader(dataset, 100):
        labels += batch["label"].tolist()
        assert all(
            stored == photo(label)["jpeg"]
            for stored, label in zip(batch["jpeg"], batch["label"].tolist(), strict=True)
        )
    assert sorted(labels) == list(range(ROWS))


def test_the_cache_stays_near_its_limit(location: str, folder: Path, access: dict[str, Any]) -> None:
    dataset = Dataset(location, cache_bytes="2MB", **access)
    cache = Cache(access["cache_dir"])
    most = 0
    for i in range(0, ROWS, 10):
        dataset[i]
        most = max(most, cache.size())
    assert most < 3_500_000 < size_of(folder)


def test_evicted_shards_are_let_go_of_so_that_their_disk_is_free(
    location: str, access: dict[str, Any]
) -> None:
    dataset = Dataset(location, cache_bytes=1, **access)
    for i in range(0, ROWS, 10):
        dataset[i]
    maps = Path("/proc/self/maps").read_text().splitlines()
    assert len([line for line in maps if str(access["cache_dir"]) in line]) <= 4


def test_memory_is_bounded_however_large_the_data_is(s3: S3, access: dict[str, Any], tmp_path: Path) -> None:
    block = random.Random(0).randbytes(1 << 20)
    samples = [{"id": i, "blob": block[i:] + block[:i]} for i in range(80)]
    folder = write_dataset(tmp_path / "large", samples, chunk_bytes="16MB")
    location = s3.location()
    upload(folder, open_store(location, credentials=s3.credentials, options=s3.options))
    access["options"]["timeout_s"] = "30"
    with SPAWN.Pool(1) as pool:
        grown = pool.apply(anonymous_growth, (location, {**access, "cache_bytes": "40MB", "io_bytes": "8MB"}))
    assert grown < 48 << 20


def anonymous_growth(location: str, access: dict[str, Any]) -> int:
    """Read an epoch and return by how many bytes the process's own memory grew at most."""
    dataset = Dataset(location, shuffle=True, **access)
    dataset[0]
    before, most = anonymous_bytes(), 0
    for _ in Loader(dataset, 4):
        most = max(most, anonymous_bytes())
    return most - before


def anonymous_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) << 10
