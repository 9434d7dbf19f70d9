"""Datasets in Google's storage, read from and written to an emulator of it.

Reading asks the emulator itself. Writing goes through a front that says obstore's writes again in words that
the emulator knows; `servers/google_xml.py` tells why.
"""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

import pytest

from blixt.data import Dataset, DatasetWriter, Loader, TokenDataset, merge, optimize, update, verify
from blixt.data import map as map_files
from blixt.data.snapshot import load
from blixt.data.store import NotFoundError, Store, open_store

from .build.functions import number, write_below
from .samples import mixed, same, write_dataset, write_stream
from .servers import google as emulator
from .servers.google_xml import XmlFront


@pytest.fixture(scope="module")
def google() -> Iterator[emulator.Google]:
    with emulator.running() as running:
        yield running


def test_objects_are_read_whole_in_ranges_and_from_their_end_and_listed(
    google: emulator.Google, tmp_path: Path
) -> None:
    content = bytes(range(256)) * 4
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "object").write_bytes(content)
    place = google.upload(tmp_path, "objects")
    store = open_store(place, credentials={"token": "x"}, options=google.options)
    assert store.get("folder/object") == content
    assert store.get_range("folder/object", 7, 300) == content[7:300]
    assert store.get_tail("folder/object", 10) == (content[-10:], 1024)
    assert store.size("folder/object") == 1024
    assert list(store.list()) == [("folder/object", 1024)]
    with pytest.raises(NotFoundError, match="gs://test/objects/absent is not there"):
        store.get("absent")
    store.delete("folder/object")
    assert store.size("folder/object") is None


def test_a_dataset_is_streamed_cached_and_verified(google: emulator.Google, tmp_path: Path) -> None:
    samples = [mixed(i) for i in range(200)]
    place = google.upload(write_dataset(tmp_path / "data", samples, chunk_bytes=5000), "data")
    asked: list[int] = []

    def credentials() -> dict[str, Any]:
        asked.append(1)
        return {"token": "short-lived", "expires_at": 4e9}

    access: dict[str, Any] = {"credentials": credentials, "options": google.options}
    dataset = Dataset(place, cache_dir=tmp_path / "cache", **access)
    assert all(map(same, samples, dataset[:]))
    dataset = Dataset(place, shuffle=True, cache_dir=tmp_path / "cache", **access)
    found = [i for batch in Loader(dataset, 20, workers=1) for i in batch["id"].tolist()]
    assert sorted(found) == list(range(200))
    assert len(asked) == 2  # once for each dataset that was opened
    assert verify(place, **access).problems == []


def test_tokens_are_streamed(google: emulator.Google, tmp_path: Path) -> None:
    place = google.upload(write_stream(tmp_path / "data", [50] * 40, chunk_bytes=600), "tokens")
    options: dict[str, Any] = {"credentials": "unsigned", "options": google.options}
    tokens = TokenDataset(place, 99, cache_dir=tmp_path / "cache", **options)
    assert [block[0] for block in tokens] == [min(99 * i, 2000 - 100) for i in range(21)]


_FOLDERS = count(1)


@dataclass(frozen=True)
class Bucket:
    """A bucket that can be written to."""

    front: XmlFront

    @property
    def access(self) -> dict[str, Any]:
        return {"credentials": {"token": "x"}, "options": {"base_url": self.front.address}}

    def place(self) -> str:
        """Return the address of a folder that nothing lies in."""
        return f"gs://test/written-{next(_FOLDERS)}"

    def store(self, place: str) -> Store:
        return open_store(place, **self.access)

    def rows(self, place: str, cache: Path) -> list[Any]:
        return list(Dataset(place, cache_dir=cache, **self.access))


def key_of(sample: dict[str, int]) -> int:
    return sample["x"]


@pytest.fixture(scope="module")
def bucket(google: emulator.Google) -> Iterator[Bucket]:
    with XmlFront(google.address) as front:
        yield Bucket(front)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_dataset_is_optimized_into_a_bucket_and_nothing_else_stays(
    bucket: Bucket, tmp_path: Path, workers: int
) -> None:
    out = bucket.place()
    optimize(
        number, range(100), out, num_workers=workers, unit_size=20, scratch_dir=tmp_path, **bucket.access
    )
    assert bucket.rows(out, tmp_path / "cache") == [{"x": i} for i in range(100)]
    left = {path.split("/")[0] for path, _ in bucket.store(out).list()}
    assert left <= {"index.json", "index.bin", "shards", "versions"}
    assert verify(out, **bucket.access).problems == []


def test_a_bucket_is_appended_to_overwritten_and_keeps_its_versions(bucket: Bucket, tmp_path: Path) -> None:
    out = bucket.place()
    modes: list[tuple[Literal["append", "overwrite"], int]] = [
        ("append", 0),
        ("append", 10),
        ("overwrite", 50),
    ]
    for mode, start in modes:
        optimize(number, range(start, start + 10), out, num_workers=0, mode=mode, **bucket.access)
    assert bucket.rows(out, tmp_path) == [{"x": i} for i in range(50, 60)]
    assert load(bucket.store(out), 2).rows == 20


def test_samples_are_replaced_by_key_and_datasets_merged_in_a_bucket(bucket: Bucket, tmp_path: Path) -> None:
    one, two, both = bucket.place(), bucket.place(), bucket.place()
    optimize(number, range(5), one, num_workers=0, key=key_of, **bucket.access)
    optimize(number, range(5, 8), two, num_workers=0, key=key_of, **bucket.access)
    update(bucket.store(one), {3: {"x": 33}})
    merge([bucket.store(one), bucket.store(two)], bucket.store(both))
    assert [row["x"] for row in bucket.rows(both, tmp_path)] == [0, 1, 2, 33, 4, 5, 6, 7]


def test_a_writer_and_map_write_to_a_bucket(bucket: Bucket, tmp_path: Path) -> None:
    out = bucket.place()
    with DatasetWriter(out, chunk_size=7, scratch_dir=tmp_path, **bucket.access) as writer:
        for i in range(20):
            writer.write({"x": i})
    assert bucket.rows(out, tmp_path / "cache") == [{"x": i} for i in range(20)]
    files = bucket.place()
    names = map_files(write_below, range(4), files, num_workers=0, **bucket.access)
    assert sorted(path for path, _ in bucket.store(files).list()) == names


def test_a_large_file_is_put_in_parts_and_arrives_whole(bucket: Bucket, tmp_path: Path) -> None:
    store = bucket.store(bucket.place())
    source = tmp_path / "source"
    source.write_bytes(os.urandom(33 << 20))
    bucket.front.writes.clear()
    store.put_file("large", source)
    assert sum(query.startswith("partNumber=") for _, query in bucket.front.writes) == 3
    assert store.get("large") == source.read_bytes()
    assert [path for path, _ in store.list()] == ["large"]


def test_of_many_exclusive_writers_exactly_one_wins(bucket: Bucket) -> None:
    store = bucket.store(bucket.place())
    won: list[int] = []

    def write(number: int) -> None:
        if store.put_if_absent("once", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.get("once") == str(won[0]).encode()
