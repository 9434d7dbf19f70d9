"""Datasets read from stores: few requests, one fetch on a machine, and right whatever the network does."""

import multiprocessing
import os
import random
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blixt.data import (
    CorruptionError,
    Dataset,
    DatasetNotFoundError,
    FormatError,
    Loader,
    TokenDataset,
)
from blixt.data.cache import Cache
from blixt.data.errors import KeyNotFoundError
from blixt.data.store import (
    PermissionDeniedError,
    Store,
    StoreError,
    UnavailableError,
    open_store,
)
from blixt.data.update import index_keys

from .samples import mixed, same, write_dataset, write_stream
from .servers.azurite import Azure
from .servers.faulty import Fault, FaultyProxy
from .servers.seaweed import S3
from .servers.web import HubServer, WebServer
from .test_store import Clock

ROWS = 600
SPAWN = multiprocessing.get_context("forkserver")


def photo(i: int) -> dict[str, Any]:
    """A sample of plain types, about 10 KB: bytes, a number and text."""
    return {"jpeg": random.Random(i).randbytes(10_000 + i % 500), "label": i, "name": f"photo {i}"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six shards of about 1 MB."""
    samples = [photo(i) for i in range(ROWS)]
    return write_dataset(tmp_path_factory.mktemp("data") / "photos", samples, chunk_bytes="1MB")


@pytest.fixture(scope="module")
def location(s3: S3, folder: Path) -> str:
    address = s3.location()
    _upload(folder, open_store(address, credentials=s3.credentials, options=s3.options))
    return address


@pytest.fixture(scope="module")
def large(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> str:
    """One shard of about 15 MB."""
    folder = write_dataset(tmp_path_factory.mktemp("data") / "large", [photo(i) for i in range(1500)])
    address = s3.location()
    _upload(folder, open_store(address, credentials=s3.credentials, options=s3.options))
    return address


@pytest.fixture
def proxy(s3: S3, faulty: Callable[[str], FaultyProxy]) -> FaultyProxy:
    """Between us and the S3 server; only reads of shards are ever harmed."""
    proxy = faulty(s3.endpoint)
    proxy.faulty = lambda method, path: method == "GET" and ".shard" in path
    return proxy


@pytest.fixture
def access(s3: S3, proxy: FaultyProxy, cache_dir: Path) -> dict[str, Any]:
    """The arguments by which a dataset is read through the proxy."""
    return {
        "credentials": s3.credentials,
        "options": {**s3.options, "endpoint": proxy.endpoint, "timeout_s": "10"},
        "cache_dir": cache_dir,
    }


class TestReading:
    def test_every_sample_is_as_it_was_written(self, location: str, access: dict[str, Any]) -> None:
        dataset = Dataset(location, **access)
        assert len(dataset) == ROWS
        assert all(same(dataset[i], photo(i)) for i in range(ROWS))

    def test_every_kind_of_column_comes_from_a_store(
        self, s3: S3, access: dict[str, Any], tmp_path: Path
    ) -> None:
        folder = write_dataset(tmp_path / "mixed", [mixed(i) for i in range(200)], chunk_bytes=5000)
        location = s3.location()
        _upload(folder, open_store(location, credentials=s3.credentials, options=s3.options))
        dataset, local = Dataset(location, **access), Dataset(folder)
        assert all(same(mixed(i), dataset[i]) for i in range(200))
        assert same(dataset.read_batch([3, 199, 77]), local.read_batch([3, 199, 77]))

    def test_a_shuffled_epoch_is_the_same_as_from_a_folder(
        self, location: str, folder: Path, access: dict[str, Any]
    ) -> None:
        near, far = Dataset(folder, shuffle=True, seed=5), Dataset(location, shuffle=True, seed=5, **access)
        for ours, theirs in zip(Loader(near, 32), Loader(far, 32), strict=True):
            assert same(ours, theirs)

    def test_slices_and_iteration_read_the_same_as_from_a_folder(
        self, location: str, access: dict[str, Any]
    ) -> None:
        dataset = Dataset(location, **access)
        assert [sample["label"] for sample in dataset[5:300:7]] == list(range(5, 300, 7))
        assert [sample["label"] for sample in dataset] == list(range(ROWS))

    def test_a_stream_of_tokens_is_cut_into_blocks_over_shards(
        self, s3: S3, access: dict[str, Any], tmp_path: Path
    ) -> None:
        folder = write_stream(tmp_path / "tokens", [5000] * 60, chunk_bytes="100KB")
        location = s3.location()
        _upload(folder, open_store(location, credentials=s3.credentials, options=s3.options))
        dataset = TokenDataset(location, 1000, shuffle=True, **access)
        local = TokenDataset(folder, 1000, shuffle=True)
        assert all(np.array_equal(a, b) for a, b in zip(Loader(local, 8), Loader(dataset, 8), strict=True))

    def test_samples_are_found_by_their_key(self, s3: S3, folder: Path, access: dict[str, Any]) -> None:
        store, copy = _copy(s3, folder)
        index_keys(store, "name")
        dataset = Dataset(copy, **access)
        assert same(dataset["photo 321"], photo(321))
        assert same(dataset.get("photo 7"), photo(7))
        with pytest.raises(KeyNotFoundError, match="no sample with key 'photo 9999'"):
            dataset["photo 9999"]

    def test_a_dataset_without_keys_says_how_to_get_them(self, location: str, access: dict[str, Any]) -> None:
        with pytest.raises(KeyNotFoundError, match=r"has no keys; write it with key="):
            Dataset(location, **access)["photo 1"]

    def test_it_travels_to_workers_of_another_process(self, location: str, access: dict[str, Any]) -> None:
        dataset = Dataset(location, **access)
        assert same(dataset[3], photo(3))
        with SPAWN.Pool(1) as pool:
            assert same(pool.apply(dataset.__getitem__, (500,)), photo(500))

    def test_a_forked_worker_is_told_to_be_started_otherwise(
        self, location: str, access: dict[str, Any]
    ) -> None:
        dataset = Dataset(location, **access)
        dataset[0]
        with (
            multiprocessing.get_context("fork").Pool(1) as pool,
            pytest.raises(StoreError, match="multiprocessing_context='forkserver'"),
        ):
            pool.apply(dataset.__getitem__, (500,))


class TestRequests:
    def test_opening_asks_for_the_index_and_for_no_shard(
        self, location: str, access: dict[str, Any], proxy: FaultyProxy
    ) -> None:
        Dataset(location, **access)
        assert len(proxy.requests) <= 2
        assert proxy.gets(".shard") == []

    def test_one_sample_costs_the_end_of_its_shard_once_and_then_one_request(
        self, location: str, access: dict[str, Any], proxy: FaultyProxy
    ) -> None:
        dataset = Dataset(location, **access)
        dataset[0]
        asked = len(proxy.requests)
        assert same(dataset[99], photo(99))
        assert len(proxy.requests) - asked <= 1

    def test_the_first_batch_needs_a_part_of_its_shard(
        self, large: str, access: dict[str, Any], proxy: FaultyProxy
    ) -> None:
        dataset = Dataset(large, **access)
        dataset.read_batch(range(32))
        assert _fetched(proxy) < 3_000_000 < 15_000_000 < dataset.shards.snapshot.size_bytes

    def test_an_epoch_fetches_every_byte_at_most_about_once_in_few_requests(
        self, location: str, folder: Path, access: dict[str, Any], proxy: FaultyProxy
    ) -> None:
        for _ in Loader(Dataset(location, shuffle=True, **access), 32, end="pad"):
            pass
        assert _fetched(proxy) <= 1.1 * _size(folder)
        assert len(proxy.gets(".shard")) <= 40

    def test_what_was_read_before_is_read_again_without_a_request(
        self, location: str, access: dict[str, Any], proxy: FaultyProxy
    ) -> None:
        first = [sample["label"] for sample in Dataset(location, **access)]
        asked = len(proxy.gets(".shard"))
        assert [sample["label"] for sample in Dataset(location, **access)] == first
        assert len(proxy.gets(".shard")) == asked

    def test_workers_that_share_shards_do_not_fetch_them_twice(
        self, location: str, folder: Path, access: dict[str, Any], proxy: FaultyProxy
    ) -> None:
        with SPAWN.Pool(2) as pool:
            halves = pool.starmap(_labels, [(location, access, rank) for rank in range(2)])
        assert sorted(halves[0] + halves[1]) == list(range(ROWS))
        assert _fetched(proxy) <= 1.2 * _size(folder)


class TestLeaving:
    def test_a_process_may_end_while_it_fetches_ahead(
        self, location: str, access: dict[str, Any], proxy: FaultyProxy
    ) -> None:
        proxy.always = "stall"
        process = SPAWN.Process(target=_plan_and_end, args=(location, access))
        process.start()
        process.join(60)
        assert process.exitcode == 0

    def test_an_epoch_that_was_left_does_not_hinder_the_next(
        self, location: str, access: dict[str, Any]
    ) -> None:
        dataset = Dataset(location, shuffle=True, **access)
        for _ in range(4):
            for _ in zip(range(2), Loader(dataset, 16), strict=False):
                pass
        assert sorted(sample["label"] for sample in dataset) == list(range(ROWS))


class TestBadLuck:
    def test_a_network_with_every_fault_gives_the_same_samples(
        self, location: str, access: dict[str, Any], proxy: FaultyProxy
    ) -> None:
        dice = random.Random(1)
        faults: tuple[Fault, ...] = ("503", "500", "429", "drop", "short", "lie", "reset", "corrupt")
        proxy.faults.extend(dice.choice(faults) for _ in range(20))
        dataset = Dataset(location, shuffle=True, **access)
        labels = [label for batch in Loader(dataset, 50) for label in batch["label"].tolist()]
        assert sorted(labels) == list(range(ROWS))
        again = Dataset(location, **access)
        assert all(same(again[i], photo(i)) for i in range(0, ROWS, 7))
        assert len([request for request in proxy.requests if request.fault]) >= 12

    def test_a_slow_answer_is_given_up_and_asked_for_again(
        self, location: str, access: dict[str, Any], proxy: FaultyProxy
    ) -> None:
        access["options"]["timeout_s"] = "0.5"
        proxy.faults.append("stall")
        assert same(Dataset(location, **access)[0], photo(0))

    def test_a_store_that_is_down_is_an_error_after_a_bounded_number_of_tries(
        self, location: str, access: dict[str, Any], proxy: FaultyProxy
    ) -> None:
        access["options"]["tries"] = "2"
        dataset = Dataset(location, **access)
        proxy.always = "503"
        with pytest.raises(UnavailableError, match=r"s3://test/.*\.shard: .*tried 2 times"):
            dataset[0]
        assert len(proxy.gets(".shard")) == 2
        proxy.always = None
        assert same(dataset[0], photo(0))

    def test_bytes_that_arrive_damaged_are_fetched_once_more(
        self, location: str, access: dict[str, Any], proxy: FaultyProxy
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
        self, location: str, folder: Path, access: dict[str, Any], cache_dir: Path, proxy: FaultyProxy
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
        self, large: str, access: dict[str, Any], proxy: FaultyProxy
    ) -> None:
        dataset = Dataset(large, **access)
        assert same(dataset[0], photo(0))
        proxy.always = "corrupt"
        with pytest.raises(CorruptionError, match=r"s3://test/.*\.shard.* block \d+ .*bytes \d+ to \d+"):
            dataset[1000]
        proxy.always = None
        assert same(dataset[1000], photo(1000))

    def test_a_missing_shard_is_named(
        self, s3: S3, location: str, folder: Path, access: dict[str, Any]
    ) -> None:
        store, copy = _copy(s3, folder)
        victim = _shards(store)[2]
        store.delete(victim)
        dataset = Dataset(copy, **access)
        assert same(dataset[0], photo(0))
        with pytest.raises(DatasetNotFoundError, match=f"{victim} is missing; restore"):
            dataset[250]

    def test_a_shard_that_was_cut_short_is_named(self, s3: S3, folder: Path, access: dict[str, Any]) -> None:
        store, copy = _copy(s3, folder)
        victim = _shards(store)[0]
        store.put(victim, store.get(victim)[:-100])
        with pytest.raises((FormatError, CorruptionError), match=f"{victim} is cut short"):
            Dataset(copy, **access)[0]

    def test_a_shard_that_was_replaced_is_noticed_and_once_restored_it_is_read(
        self, s3: S3, folder: Path, access: dict[str, Any]
    ) -> None:
        store, copy = _copy(s3, folder)
        first, second = _shards(store)[:2]
        right = store.get(first)
        other = store.get(second)
        wrong = other[: len(right)].ljust(len(right), b"\0") if len(other) != len(right) else other
        store.put(first, wrong)
        with pytest.raises((CorruptionError, FormatError), match=Path(first).name):
            Dataset(copy, **access)[0]
        store.put(first, right)
        assert same(Dataset(copy, **access)[0], photo(0))

    def test_wrong_credentials_are_refused_when_the_dataset_is_opened(
        self, location: str, access: dict[str, Any]
    ) -> None:
        access["credentials"] = {**access["credentials"], "secret_access_key": "wrong"}
        with pytest.raises(PermissionDeniedError, match="the store refused the credentials"):
            Dataset(location, **access)

    def test_an_address_without_a_dataset_says_so(self, s3: S3, access: dict[str, Any]) -> None:
        with pytest.raises(DatasetNotFoundError, match="holds no blixt dataset"):
            Dataset(s3.location(), **access)


class TestLimits:
    @pytest.mark.parametrize("cache_bytes", [1, "500KB", "3MB"])
    def test_a_cache_smaller_than_the_dataset_reads_it_all_right(
        self, location: str, access: dict[str, Any], cache_bytes: int | str
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

    def test_the_cache_stays_near_its_limit(
        self, location: str, folder: Path, access: dict[str, Any]
    ) -> None:
        dataset = Dataset(location, cache_bytes="2MB", **access)
        cache = Cache(access["cache_dir"])
        most = 0
        for i in range(0, ROWS, 10):
            dataset[i]
            most = max(most, cache.size())
        assert most < 3_500_000 < _size(folder)

    def test_evicted_shards_are_let_go_of_so_that_their_disk_is_free(
        self, location: str, access: dict[str, Any]
    ) -> None:
        dataset = Dataset(location, cache_bytes=1, **access)
        for i in range(0, ROWS, 10):
            dataset[i]
        maps = Path("/proc/self/maps").read_text().splitlines()
        assert len([line for line in maps if str(access["cache_dir"]) in line]) <= 4

    def test_memory_is_bounded_however_large_the_data_is(
        self, s3: S3, access: dict[str, Any], tmp_path: Path
    ) -> None:
        block = random.Random(0).randbytes(1 << 20)
        samples = [{"id": i, "blob": block[i:] + block[:i]} for i in range(80)]
        folder = write_dataset(tmp_path / "large", samples, chunk_bytes="16MB")
        location = s3.location()
        _upload(folder, open_store(location, credentials=s3.credentials, options=s3.options))
        access["options"]["timeout_s"] = "30"
        with SPAWN.Pool(1) as pool:
            grown = pool.apply(
                _anonymous_growth, (location, {**access, "cache_bytes": "40MB", "io_bytes": "8MB"})
            )
        assert grown < 48 << 20


class TestOtherStores:
    def test_a_plain_web_server_is_enough(self, folder: Path, cache_dir: Path) -> None:
        with WebServer(folder) as server:
            dataset = Dataset(server.address, shuffle=True)
            assert sorted(sample["label"] for sample in dataset) == list(range(ROWS))

    def test_azure_is_read_like_s3(self, azure: Azure, folder: Path, cache_dir: Path) -> None:
        location = azure.location()
        _upload(folder, open_store(location, credentials=azure.credentials, options=azure.options))
        dataset = Dataset(location, shuffle=True, credentials=azure.credentials, options=azure.options)
        assert sorted(sample["label"] for sample in dataset) == list(range(ROWS))

    def test_credentials_that_expire_in_the_middle_of_an_epoch_are_renewed_before(
        self, folder: Path, cache_dir: Path
    ) -> None:
        clock, issued = Clock(), list[float]()

        def callback() -> dict[str, Any]:
            issued.append(clock.now + 1000)
            return {"token": str(len(issued)), "expires_at": issued[-1]}

        def is_valid(_: str, headers: dict[str, str]) -> bool:
            token = int(headers["authorization"].removeprefix("Bearer "))
            return clock.now < issued[token - 1]

        with clock, WebServer(folder, is_valid) as server:
            dataset = Dataset(server.address, credentials=callback, cache_bytes=1)
            for row, _ in zip(cycle(range(0, ROWS, 97)), range(20), strict=False):
                assert dataset[row]["label"] == row
                clock.now += 190
        assert len(issued) >= 4

    def test_a_hub_is_read_by_its_resolve_addresses(
        self, folder: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with WebServer(folder) as files, HubServer(folder, files=files.address) as hub:
            monkeypatch.setenv("HF_ENDPOINT", hub.address)
            assert same(Dataset("hf://datasets/owner/name")[321], photo(321))

    def test_presigned_urls_are_enough(self, s3: S3, location: str, folder: Path, cache_dir: Path) -> None:
        paths = [path for path, _ in open_store(folder).list()]
        urls = {path: s3.sign(location, path) for path in paths}
        assert same(Dataset(urls)[123], photo(123))
        assert same(Dataset(list(urls.values()))[124], photo(124))

    def test_the_same_data_from_another_address_is_in_the_cache_already(
        self, location: str, folder: Path, access: dict[str, Any]
    ) -> None:
        list(Dataset(location, **access))
        with WebServer(folder) as server:
            list(Dataset(server.address, cache_dir=access["cache_dir"]))
            assert [path for path, _ in server.requests if ".shard" in path] == []


class TestTorch:
    def test_torchs_data_loader_reads_it_in_processes(self, location: str, access: dict[str, Any]) -> None:
        torch_data = pytest.importorskip("torch.utils.data")
        loader = torch_data.DataLoader(
            Dataset(location, **access),
            batch_size=None,
            num_workers=2,
            multiprocessing_context="forkserver",
        )
        assert [int(sample["label"]) for sample in loader] == list(range(ROWS))


def _upload(folder: Path, store: Store) -> None:
    for path, _ in open_store(folder).list():
        store.put_file(path, folder / path)


def _copy(s3: S3, folder: Path) -> tuple[Store, str]:
    location = s3.location()
    store = open_store(location, credentials=s3.credentials, options=s3.options)
    _upload(folder, store)
    return store, location


def _shards(store: Store) -> list[str]:
    """Return the paths of the shards in their order."""
    return sorted(path for path, _ in store.list("shards"))


def _fetched(proxy: FaultyProxy) -> int:
    """Return the bytes of shards that were asked for."""
    return sum(request.range[1] - request.range[0] for request in proxy.gets(".shard") if request.range)


def _size(folder: Path) -> int:
    return sum(size for path, size in open_store(folder).list("shards"))


def _labels(location: str, access: dict[str, Any], rank: int) -> list[int]:
    dataset = Dataset(location, shuffle=True, rank=rank, world_size=2, **access)
    return [sample["label"] for sample in dataset]


def _plan_and_end(location: str, access: dict[str, Any]) -> None:
    access["options"]["timeout_s"] = "60"
    Dataset(location, **access).plan_ahead(np.arange(ROWS))


def _anonymous_growth(location: str, access: dict[str, Any]) -> int:
    """Read an epoch and return by how many bytes the process's own memory grew at most."""
    dataset = Dataset(location, shuffle=True, **access)
    dataset[0]
    before, most = _anonymous(), 0
    for _ in Loader(dataset, 4):
        most = max(most, _anonymous())
    return most - before


def _anonymous() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) << 10
