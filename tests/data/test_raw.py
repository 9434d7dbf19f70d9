"""Files as they are: listed once, grouped, fetched concurrently, from a folder and from a real S3 server."""

import multiprocessing
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from blixt.data import Loader
from blixt.data.cache import Cache
from blixt.data.errors import DataError, FormatError
from blixt.data.raw import RawDataset, RawFile, by_suffix
from blixt.data.store import Store, StoreError, UnavailableError, open_store

from .servers.faulty import FaultyProxy
from .servers.seaweed import S3
from .servers.web import WebServer

COUNT = 40
SPAWN = multiprocessing.get_context("forkserver")


def content(name: str) -> bytes:
    return name.encode() * 100


def fill(store: Store) -> None:
    for number in range(COUNT):
        store.put(f"train/{number:03}.jpg", content(f"{number}"))
        if number % 2 == 0:
            store.put(f"train/{number:03}_mask.png", content(f"mask {number}"))
    store.put("readme", b"no sample")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    fill(open_store(folder))
    return folder


@pytest.fixture(scope="module")
def location(s3: S3) -> str:
    location = s3.location()
    fill(open_store(location, credentials=s3.credentials, options=s3.options))
    return location


@pytest.fixture
def proxy(s3: S3, faulty: Callable[[str], FaultyProxy]) -> FaultyProxy:
    proxy = faulty(s3.endpoint)
    proxy.faulty = lambda method, path: method == "GET" and "/train/" in path
    return proxy


@pytest.fixture
def access(s3: S3, proxy: FaultyProxy, cache_dir: Path) -> dict[str, Any]:
    options = {**s3.options, "endpoint": proxy.endpoint, "timeout_s": "10"}
    return {"credentials": s3.credentials, "options": options, "cache_dir": cache_dir}


@pytest.fixture(params=["folder", "s3"])
def open_raw(request: pytest.FixtureRequest) -> Callable[..., RawDataset]:
    """Opens the files from a folder or from S3."""
    if request.param == "folder":
        folder = request.getfixturevalue("folder")
        return lambda **options: RawDataset(folder, **options)
    location, access = request.getfixturevalue("location"), request.getfixturevalue("access")
    return lambda **options: RawDataset(location, **access, **options)


def test_every_file_is_a_sample_in_the_order_of_the_paths(open_raw: Callable[..., RawDataset]) -> None:
    dataset = open_raw(pattern="train/*.jpg")
    assert len(dataset) == COUNT
    assert list(dataset) == [content(f"{number}") for number in range(COUNT)]
    assert dataset[-1] == content(f"{COUNT - 1}")
    assert dataset[3:9:2] == [content(f"{number}") for number in (3, 5, 7)]


def test_a_batch_is_the_list_of_its_samples(open_raw: Callable[..., RawDataset]) -> None:
    dataset = open_raw(pattern="train/*.jpg")
    assert dataset.read_batch([5, 0, 5]) == [content("5"), content("0"), content("5")]


def test_files_are_grouped_by_their_suffix(open_raw: Callable[..., RawDataset]) -> None:
    dataset = open_raw(group=by_suffix(image=".jpg", mask="_mask.png"))
    assert len(dataset) == COUNT // 2
    assert dataset[3] == {"image": content("6"), "mask": content("mask 6")}


def test_a_hook_groups_filters_and_nests_as_it_likes(open_raw: Callable[..., RawDataset]) -> None:
    def pairs(files: Sequence[RawFile]) -> list[Any]:
        images = [file for file in files if file.path.endswith(".jpg")]
        return [(a, [b]) for a, b in zip(images[::2], images[1::2], strict=True)]

    assert open_raw(group=pairs)[1] == (content("2"), [content("3")])


def test_a_transform_sees_each_sample(open_raw: Callable[..., RawDataset]) -> None:
    dataset = open_raw(pattern="train/*.jpg", transform=len)
    assert dataset[0:12] == [100] * 10 + [200] * 2


def test_paths_are_those_of_files_on_this_machine(open_raw: Callable[..., RawDataset]) -> None:
    dataset = open_raw(pattern="train/*.jpg", item="path")
    paths = dataset[:5]
    assert [path.read_bytes() for path in paths] == [content(f"{number}") for number in range(5)]
    assert {path.suffix for path in paths} == {".jpg"}


def test_a_shuffled_run_resumes_where_it_was(open_raw: Callable[..., RawDataset]) -> None:
    whole = [sample for batch in Loader(open_raw(shuffle=True, pattern="*.jpg"), 4) for sample in batch]
    assert sorted(whole) == sorted(content(f"{number}") for number in range(COUNT))
    loader = Loader(open_raw(shuffle=True, pattern="*.jpg"), 4)
    head = [sample for _, batch in zip(range(3), loader, strict=False) for sample in batch]
    state = loader.state_dict()
    loader = Loader(open_raw(shuffle=True, pattern="*.jpg"), 4)
    loader.load_state_dict(state)
    assert head + [sample for batch in loader for sample in batch] == whole


def test_it_travels_to_another_process(open_raw: Callable[..., RawDataset]) -> None:
    dataset = open_raw(pattern="train/*.jpg")
    dataset[0]
    with SPAWN.Pool(1) as pool:
        assert pool.apply(dataset.__getitem__, (7,)) == content("7")


class TestListing:
    def test_a_remote_store_is_listed_once_and_anew_when_asked(
        self, s3: S3, access: dict[str, Any], proxy: FaultyProxy
    ) -> None:
        location = s3.location()
        store = open_store(location, credentials=s3.credentials, options=s3.options)
        store.put("a", b"1")
        assert len(RawDataset(location, **access)) == 1
        store.put("b", b"2")
        asked = len(proxy.requests)
        assert len(RawDataset(location, **access)) == 1
        assert len(proxy.requests) == asked
        assert len(RawDataset(location, relist=True, **access)) == 2
        assert len(RawDataset(location, **access)) == 2

    def test_it_may_be_kept_in_a_file_of_ones_own(
        self, location: str, access: dict[str, Any], tmp_path: Path
    ) -> None:
        listing = tmp_path / "here" / "list.json"
        RawDataset(location, listing=listing, **access)
        assert listing.exists()
        with pytest.raises(FormatError, match=r"lists .* and not .* choose another file"):
            RawDataset(location, listing=listing, pattern="*.jpg", **access)
        listing.write_text("nonsense")
        with pytest.raises(FormatError, match=r"list\.json is no listing; delete it"):
            RawDataset(location, listing=listing, **access)

    def test_a_state_of_another_listing_is_refused(self, tmp_path: Path) -> None:
        store = open_store(tmp_path)
        store.put("a", b"1")
        state = RawDataset(tmp_path).state_dict()
        store.put("b", b"2")
        with pytest.raises(DataError, match="belongs to other data"):
            RawDataset(tmp_path).load_state_dict(state)

    @pytest.mark.parametrize("item", ["bytes", "path"])
    def test_a_file_that_changed_since_is_noticed(self, s3: S3, access: dict[str, Any], item: Any) -> None:
        location = s3.location()
        store = open_store(location, credentials=s3.credentials, options=s3.options)
        store.put("a", b"1")
        dataset = RawDataset(location, item=item, **access)
        store.put("a", b"longer")
        with pytest.raises(StoreError, match="/a has 6 bytes and had 1 when it was listed; pass relist=True"):
            dataset[0]

    def test_a_group_that_gives_something_else_is_refused(self, folder: Path) -> None:
        with pytest.raises(TypeError, match=r"must be a RawFile.*gave 'x'"):
            RawDataset(folder, group=lambda files: ["x"])


class TestFetching:
    def test_the_files_of_a_batch_come_side_by_side(self, tmp_path: Path, cache_dir: Path) -> None:
        class Gate(WebServer):
            """Answers files only once four are asked for at the same time."""

            together = threading.Barrier(4, timeout=240)

            def respond(self, handler: Any, path: str) -> None:
                self.together.wait()
                super().respond(handler, path)

        for number in range(4):
            (tmp_path / str(number)).write_bytes(content(f"{number}"))
        with Gate(tmp_path) as server:
            store = _Listed(server.address, 4)
            assert RawDataset(store).read_batch(range(4)) == [content(f"{number}") for number in range(4)]

    def test_look_ahead_spares_the_reader_the_wait_and_is_bounded(
        self, location: str, access: dict[str, Any], proxy: FaultyProxy
    ) -> None:
        import numpy as np

        dataset = RawDataset(location, pattern="train/*.jpg", ahead_bytes=1000, **access)
        asked = len(proxy.gets(".jpg"))
        dataset.plan_ahead(np.arange(COUNT))
        samples = dataset.read_batch(range(8))
        assert samples == [content(f"{number}") for number in range(8)]
        assert len(proxy.gets(".jpg")) - asked <= 10

    @pytest.mark.parametrize("item", ["bytes", "path"])
    def test_a_faulty_network_gives_the_same_files(
        self, location: str, access: dict[str, Any], proxy: FaultyProxy, item: Any
    ) -> None:
        proxy.faults.extend(["503", "drop", "short", "reset", "500", "429"] * 3)
        dataset = RawDataset(location, pattern="train/*.jpg", item=item, **access)
        found = [part if item == "bytes" else part.read_bytes() for part in dataset]
        assert found == [content(f"{number}") for number in range(COUNT)]
        assert not proxy.faults

    def test_a_store_that_is_down_is_an_error_after_a_bounded_number_of_tries(
        self, location: str, access: dict[str, Any], proxy: FaultyProxy
    ) -> None:
        access["options"]["tries"] = "2"
        dataset = RawDataset(location, pattern="train/*.jpg", **access)
        proxy.always = "503"
        with pytest.raises(UnavailableError, match=r"train/000\.jpg: .*tried 2 times"):
            dataset[0]


class TestDisk:
    def test_a_file_that_was_fetched_is_found_by_other_jobs(
        self, location: str, access: dict[str, Any], proxy: FaultyProxy
    ) -> None:
        RawDataset(location, pattern="train/*.jpg", item="path", **access)[:10]
        asked = len(proxy.gets(".jpg"))
        with SPAWN.Pool(1) as pool:
            found = pool.apply(_read_paths, (location, access))
        assert found == [content(f"{number}") for number in range(10)]
        assert len(proxy.gets(".jpg")) == asked

    def test_paths_that_were_handed_out_are_not_evicted(self, location: str, access: dict[str, Any]) -> None:
        dataset = RawDataset(location, pattern="train/*.jpg", item="path", **access)
        paths = dataset[:10]
        Cache(access["cache_dir"]).clear()
        assert all(path.exists() for path in paths)
        del dataset
        assert {entry.size_bytes for entry in Cache(access["cache_dir"]).entries()} >= {100}
        Cache(access["cache_dir"]).clear()
        assert list(access["cache_dir"].iterdir()) == []


class _Listed:
    """A web server's store that can be listed, since the test knows the names."""

    def __new__(cls, address: str, count: int) -> Any:
        store = open_store(address)
        store.list = lambda prefix="": iter([(str(n), len(content(f"{n}"))) for n in range(count)])  # type: ignore[method-assign]
        return store


def _read_paths(location: str, access: dict[str, Any]) -> list[bytes]:
    dataset = RawDataset(location, pattern="train/*.jpg", item="path", **access)
    return [path.read_bytes() for path in dataset[:10]]
