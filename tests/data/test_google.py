"""Datasets in Google's storage, read through an emulator of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blixt.data import Dataset, Loader, TokenDataset, verify
from blixt.data.store import NotFoundError, open_store

from .samples import mixed, same, write_dataset, write_stream
from .servers import google as emulator


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
