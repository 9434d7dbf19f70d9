"""Datasets read from a store: the same samples, batches, blocks and keys as from a folder."""

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blixt.data import Dataset, Loader, TokenDataset
from blixt.data.errors import KeyNotFoundError
from blixt.data.store import StoreError, open_store
from blixt.data.update import index_keys

from ..samples import mixed, same, write_dataset, write_stream
from ..servers.seaweed import S3
from .places import ROWS, SPAWN, copied, photo, upload


def test_every_sample_is_as_it_was_written(location: str, access: dict[str, Any]) -> None:
    dataset = Dataset(location, **access)
    assert len(dataset) == ROWS
    assert all(same(dataset[i], photo(i)) for i in range(ROWS))


def test_every_kind_of_column_comes_from_a_store(s3: S3, access: dict[str, Any], tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "mixed", [mixed(i) for i in range(200)], chunk_bytes=5000)
    location = s3.location()
    upload(folder, open_store(location, credentials=s3.credentials, options=s3.options))
    dataset, local = Dataset(location, **access), Dataset(folder)
    assert all(same(mixed(i), dataset[i]) for i in range(200))
    assert same(dataset.read_batch([3, 199, 77]), local.read_batch([3, 199, 77]))


def test_a_shuffled_epoch_is_the_same_as_from_a_folder(
    location: str, folder: Path, access: dict[str, Any]
) -> None:
    near, far = Dataset(folder, shuffle=True, seed=5), Dataset(location, shuffle=True, seed=5, **access)
    for ours, theirs in zip(Loader(near, 32), Loader(far, 32), strict=True):
        assert same(ours, theirs)


def test_slices_and_iteration_read_the_same_as_from_a_folder(location: str, access: dict[str, Any]) -> None:
    dataset = Dataset(location, **access)
    assert [sample["label"] for sample in dataset[5:300:7]] == list(range(5, 300, 7))
    assert [sample["label"] for sample in dataset] == list(range(ROWS))


def test_a_stream_of_tokens_is_cut_into_blocks_over_shards(
    s3: S3, access: dict[str, Any], tmp_path: Path
) -> None:
    folder = write_stream(tmp_path / "tokens", [5000] * 60, chunk_bytes="100KB")
    location = s3.location()
    upload(folder, open_store(location, credentials=s3.credentials, options=s3.options))
    dataset = TokenDataset(location, 1000, shuffle=True, **access)
    local = TokenDataset(folder, 1000, shuffle=True)
    assert all(np.array_equal(a, b) for a, b in zip(Loader(local, 8), Loader(dataset, 8), strict=True))


def test_samples_are_found_by_their_key(s3: S3, folder: Path, access: dict[str, Any]) -> None:
    store, copy = copied(s3, folder)
    index_keys(store, "name")
    dataset = Dataset(copy, **access)
    assert same(dataset["photo 321"], photo(321))
    assert same(dataset.get("photo 7"), photo(7))
    with pytest.raises(KeyNotFoundError, match="no sample with key 'photo 9999'"):
        dataset["photo 9999"]


def test_a_dataset_without_keys_says_how_to_get_them(location: str, access: dict[str, Any]) -> None:
    with pytest.raises(KeyNotFoundError, match=r"has no keys; write it with key="):
        Dataset(location, **access)["photo 1"]


def test_it_travels_to_workers_of_another_process(location: str, access: dict[str, Any]) -> None:
    dataset = Dataset(location, **access)
    assert same(dataset[3], photo(3))
    with SPAWN.Pool(1) as pool:
        assert same(pool.apply(dataset.__getitem__, (500,)), photo(500))


def test_a_forked_worker_is_told_to_be_started_otherwise(location: str, access: dict[str, Any]) -> None:
    dataset = Dataset(location, **access)
    dataset[0]
    with (
        multiprocessing.get_context("fork").Pool(1) as pool,
        pytest.raises(StoreError, match="multiprocessing_context='forkserver'"),
    ):
        pool.apply(dataset.__getitem__, (500,))


def test_torchs_data_loader_reads_it_in_processes(location: str, access: dict[str, Any]) -> None:
    torch_data = pytest.importorskip("torch.utils.data")
    loader = torch_data.DataLoader(
        Dataset(location, **access),
        batch_size=None,
        num_workers=2,
        multiprocessing_context="forkserver",
    )
    assert [int(sample["label"]) for sample in loader] == list(range(ROWS))
