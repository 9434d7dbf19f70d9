"""Stores: the same verbs over a folder, a real S3 server, a web server, a hub and presigned URLs."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from blixt.data.store import (
    NotFoundError,
    Store,
    StoreError,
    TruncatedError,
    UnavailableError,
    UnsupportedError,
    open_store,
)

from .servers.azurite import Azure
from .servers.faulty import Fault, FaultyProxy
from .servers.seaweed import S3

CONTENT = bytes(range(256)) * 4


@pytest.fixture(params=["folder", "s3", "azure"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return open_store(tmp_path / "store")
    server: S3 | Azure = request.getfixturevalue(request.param)
    return open_store(server.location(), credentials=server.credentials, options=server.options)


def test_an_object_comes_back_as_it_was_put_whole_in_ranges_and_from_its_end(store: Store) -> None:
    store.put("folder/object", CONTENT)
    assert store.get("folder/object") == CONTENT
    assert store.get_range("folder/object", 7, 300) == CONTENT[7:300]
    assert store.get_range("folder/object", 5, 5) == b""
    assert store.get_ranges("folder/object", [(900, 1024), (0, 2)]) == [CONTENT[900:], CONTENT[:2]]
    assert store.get_tail("folder/object", 10) == (CONTENT[-10:], 1024)
    assert store.get_tail("folder/object", 9999) == (CONTENT, 1024)
    assert store.size("folder/object") == 1024


def test_putting_again_replaces_and_deleting_twice_is_no_error(store: Store) -> None:
    store.put("a", b"old")
    store.put("a", b"new")
    assert store.get("a") == b"new"
    store.delete("a")
    store.delete("a")
    assert store.size("a") is None


def test_a_listing_names_objects_at_any_depth_below_a_folder_and_nothing_else(store: Store) -> None:
    for path in ("x/1", "x/y/2", "xx/3", "4"):
        store.put(path, path.encode())
    assert sorted(store.list()) == [("4", 1), ("x/1", 3), ("x/y/2", 5), ("xx/3", 4)]
    assert sorted(store.list("x")) == [("x/1", 3), ("x/y/2", 5)]
    assert list(store.list("absent")) == []


def test_a_sub_store_sees_only_what_lies_below(store: Store) -> None:
    store.put("deep/er/object", b"1")
    below = store.sub("deep").sub("er")
    assert below.get("object") == b"1"
    assert list(below.list()) == [("object", 1)]
    assert below.location == f"{store.location}/deep/er"


def test_a_file_is_put_from_disk(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    store.put_file("copy", source)
    assert store.get("copy") == CONTENT


def test_a_large_file_is_put_in_parts_and_arrives_whole(s3: S3, tmp_path: Path) -> None:
    store = open_store(s3.location(), credentials=s3.credentials, options=s3.options)
    source = tmp_path / "source"
    source.write_bytes(os.urandom(33 << 20))
    store.put_file("large", source)
    assert store.size("large") == 33 << 20
    assert store.get("large") == source.read_bytes()


def test_of_many_exclusive_writers_exactly_one_wins(store: Store) -> None:
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


def test_a_missing_object_is_named(store: Store) -> None:
    for read in (store.get, lambda path: store.get_range(path, 0, 1), lambda path: store.get_tail(path, 1)):
        with pytest.raises(NotFoundError, match=f"{store.location}/absent is not there"):
            read("absent")


def test_a_range_past_the_end_is_an_error_that_names_the_object(store: Store) -> None:
    store.put("short", b"12345")
    with pytest.raises(TruncatedError, match=f"{store.location}/short has 5 bytes, too few"):
        store.get_range("short", 3, 9)
    with pytest.raises(TruncatedError, match=f"{store.location}/short"):
        store.get_range("short", 6, 9)


def test_a_store_travels_to_another_process(store: Store) -> None:
    store.put("a", b"1")
    assert store.get("a") == b"1"
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        assert pool.apply(_get, (store, "a")) == b"1"


def test_after_a_fork_a_remote_store_says_to_use_another_start_method(s3: S3) -> None:
    store = open_store(s3.location(), credentials=s3.credentials, options=s3.options)
    store.put("a", b"1")
    with multiprocessing.get_context("fork").Pool(1) as pool, pytest.raises(StoreError, match="forkserver"):
        pool.apply(_get, (store, "a"))


def test_a_listing_goes_on_over_many_pages(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(s3.location(), credentials=s3.credentials, options=s3.options)
    monkeypatch.setattr("blixt.data.store.cloud._LIST_PAGE", 3)
    for number in range(8):
        store.put(f"n/{number}", b"")
    assert [path for path, _ in store.list("n")] == [f"n/{number}" for number in range(8)]


def test_a_folder_never_lists_a_file_that_is_still_being_written(tmp_path: Path) -> None:
    (tmp_path / ".tmp-1").write_bytes(b"half")
    assert list(open_store(tmp_path).list()) == []


def test_a_refused_write_leaves_nothing_and_says_so(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")
    store.put("file", b"1")
    with pytest.raises(Exception, match=r"cannot write .*file/below.*make room or choose another"):
        store.put("file/below", b"2")
    assert sorted(store.list()) == [("file", 1)]


@pytest.mark.parametrize("location", ["ftp://host/x", "s3:///x"])
def test_an_address_that_names_no_store_is_refused(location: str) -> None:
    with pytest.raises(StoreError, match=r"(is not known; use|names no bucket)"):
        open_store(location)


def test_other_names_of_stores_mean_the_same(s3: S3, azure: Azure) -> None:
    for server, name, other in ((s3, "s3", "r2"), (azure, "az", "azure")):
        location = server.location()
        access: dict[str, Any] = {"credentials": server.credentials, "options": server.options}
        open_store(location.replace(f"{name}://", f"{other}://"), **access).put("a", b"1")
        assert open_store(location, **access).get("a") == b"1"
    assert open_store("gcs://bucket/folder").location == "gs://bucket/folder"


def test_a_bucket_of_r2_needs_the_address_of_its_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(StoreError, match=r"R2, which has an address for each account; pass options="):
        open_store("r2://bucket")


def test_a_file_address_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    store = open_store(f"file://{tmp_path}/a%20b")
    store.put("x", b"1")
    assert (tmp_path / "a b" / "x").read_bytes() == b"1"
    assert store.local == tmp_path / "a b"


class TestGoogle:
    """The client for Google speaks its XML API, whose plain requests SeaweedFS answers too.

    It is no Google: it knows neither Google's tokens, which a proxy takes away, nor its exclusive creation.
    """

    @pytest.fixture
    def endpoint(self, s3: S3, faulty: Callable[[str], FaultyProxy]) -> str:
        proxy = faulty(s3.endpoint)
        proxy.left_out = ("connection", "authorization")
        return proxy.endpoint

    @pytest.fixture
    def google(self, s3: S3, endpoint: str) -> Store:
        location = s3.location("public").replace("s3://", "gs://")
        return open_store(location, credentials={"token": "x"}, options={"base_url": endpoint})

    def test_objects_are_put_and_read_whole_in_ranges_and_from_their_end(self, google: Store) -> None:
        google.put("folder/object", CONTENT)
        assert google.get("folder/object") == CONTENT
        assert google.get_range("folder/object", 7, 300) == CONTENT[7:300]
        assert google.get_tail("folder/object", 10) == (CONTENT[-10:], 1024)
        assert google.size("folder/object") == 1024
        assert list(google.list("folder")) == [("folder/object", 1024)]
        with pytest.raises(NotFoundError, match=r"gs://public/.*/absent is not there"):
            google.get("absent")

    def test_a_store_that_ignores_exclusive_creation_is_found_out(self, google: Store) -> None:
        with pytest.raises(UnsupportedError, match=r"ignores If-None-Match.*let one process publish"):
            google.put_if_absent("once", b"1")
        assert list(google.list()) == []

    def test_one_writer_may_do_without_exclusive_creation(self, google: Store, endpoint: str) -> None:
        options = {"base_url": endpoint, "exclusive": "false"}
        alone = open_store(google.location, credentials={"token": "x"}, options=options)
        assert alone.put_if_absent("once", b"1")
        assert not alone.put_if_absent("once", b"2")
        assert google.get("once") == b"1"


class TestBadLuck:
    @pytest.mark.parametrize("fault", ["503", "500", "429", "drop", "short", "lie", "reset"])
    def test_a_read_that_fails_is_tried_again(
        self, s3: S3, faulty: Callable[[str], FaultyProxy], fault: Fault
    ) -> None:
        proxy = faulty(s3.endpoint)
        store = open_store(
            s3.location(), credentials=s3.credentials, options={**s3.options, "endpoint": proxy.endpoint}
        )
        store.put("a", CONTENT)
        for read in (
            lambda: store.get_range("a", 10, 1000) == CONTENT[10:1000],
            lambda: store.get_tail("a", 50) == (CONTENT[-50:], 1024),
            lambda: fault == "lie" or store.get("a") == CONTENT,
        ):
            proxy.faults.clear()
            proxy.faults.extend([fault, fault])
            assert read()
        assert not proxy.faults or fault == "lie"

    @pytest.mark.parametrize("fault", ["503", "drop", "short", "lie", "reset"])
    def test_a_large_read_that_breaks_off_goes_on_where_it_was(
        self, s3: S3, faulty: Callable[[str], FaultyProxy], fault: Fault
    ) -> None:
        proxy, content = faulty(s3.endpoint), CONTENT * 2048
        options = {**s3.options, "endpoint": proxy.endpoint}
        store = open_store(s3.location(), credentials=s3.credentials, options=options)
        store.put("a", content)
        proxy.faults.extend([fault, fault])
        arrived = bytearray()

        def take(at: int, part: memoryview) -> None:
            assert at == 10 + len(arrived)
            arrived.extend(part)

        store.read_to("a", 10, len(content) - 10, take)
        assert arrived == content[10:-10]
        starts = [request.range[0] for request in proxy.gets("/a") if request.range]
        assert len(starts) >= 3
        assert starts == sorted(starts)
        if fault in ("short", "lie", "reset"):
            assert starts[-1] > 10

    def test_what_goes_wrong_with_the_taker_is_not_tried_again(self, s3: S3) -> None:
        store = open_store(s3.location(), credentials=s3.credentials, options=s3.options)
        store.put("a", CONTENT * 2048)
        taken: list[int] = []

        def take(at: int, part: memoryview) -> None:
            taken.append(at)
            raise OSError("no space")

        with pytest.raises(OSError, match="no space"):
            store.read_to("a", 0, 1 << 20, take)
        assert taken == [0]

    def test_an_answer_that_stalls_is_given_up_and_asked_for_again(
        self, s3: S3, faulty: Callable[[str], FaultyProxy]
    ) -> None:
        proxy = faulty(s3.endpoint)
        options = {**s3.options, "endpoint": proxy.endpoint, "timeout_s": "0.5"}
        store = open_store(s3.location(), credentials=s3.credentials, options=options)
        store.put("a", CONTENT)
        proxy.faults.append("stall")
        assert store.get_range("a", 0, 1024) == CONTENT

    def test_tries_are_bounded_and_then_the_error_says_what_to_do(
        self, s3: S3, faulty: Callable[[str], FaultyProxy]
    ) -> None:
        proxy = faulty(s3.endpoint)
        options = {**s3.options, "endpoint": proxy.endpoint, "tries": "3"}
        store = open_store(s3.location(), credentials=s3.credentials, options=options)
        store.put("a", CONTENT)
        proxy.always = "503"
        before = len(proxy.requests)
        with pytest.raises(
            UnavailableError, match=rf"bytes 0 to 9 of {store.location}/a: .*tried 3 times\); check"
        ):
            store.get_range("a", 0, 9)
        assert len(proxy.requests) - before == 3

    def test_writes_of_small_and_of_large_objects_are_tried_again(
        self, s3: S3, faulty: Callable[[str], FaultyProxy], tmp_path: Path
    ) -> None:
        proxy = faulty(s3.endpoint)
        proxy.faulty = lambda method, path: method in ("PUT", "POST")
        options = {**s3.options, "endpoint": proxy.endpoint}
        store = open_store(s3.location(), credentials=s3.credentials, options=options)
        proxy.faults.extend(["503", "drop", "500"])
        store.put("small", CONTENT)
        source = tmp_path / "source"
        source.write_bytes(os.urandom(17 << 20))
        proxy.faults.extend(["503", "500", "drop"])
        store.put_file("large", source)
        assert not proxy.faults
        assert store.get("small") == CONTENT
        assert store.get("large") == source.read_bytes()

    def test_a_create_whose_answer_was_lost_still_knows_that_it_won(
        self, s3: S3, faulty: Callable[[str], FaultyProxy]
    ) -> None:
        proxy = faulty(s3.endpoint)
        options = {**s3.options, "endpoint": proxy.endpoint}
        store = open_store(s3.location(), credentials=s3.credentials, options=options)
        assert store.put_if_absent("first", b"1")
        proxy.faulty = lambda method, path: method == "PUT"
        proxy.faults.append("short")
        assert store.put_if_absent("second", b"mine")
        assert not store.put_if_absent("second", b"other")
        assert store.get("second") == b"mine"


class Clock:
    """Time that tests move."""

    def __init__(self) -> None:
        self.now = time.time()

    def __enter__(self) -> "Clock":
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr("blixt.data.store.credentials.time", SimpleNamespace(time=lambda: self.now))
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.undo()


def _get(store: Store, path: str) -> bytes:
    return store.get(path)
