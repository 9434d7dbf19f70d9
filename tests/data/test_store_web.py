"""Stores that are web servers, hubs and lists of signed addresses."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from blixt.data.store import (
    NotFoundError,
    PermissionDeniedError,
    Store,
    StoreError,
    TruncatedError,
    UnavailableError,
    UnsupportedError,
    open_store,
)
from data.test_store import Clock

from .servers.faulty import Fault, FaultyProxy
from .servers.seaweed import S3
from .servers.web import HubServer, WebServer, basic

CONTENT = bytes(range(256)) * 4


class TestWeb:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "sub dir").mkdir()
        (tmp_path / "sub dir" / "obj+ect").write_bytes(CONTENT)
        (tmp_path / "top").write_bytes(b"12345")
        (tmp_path / "empty").write_bytes(b"")
        return tmp_path

    def test_files_are_read_whole_in_ranges_and_from_their_end(self, folder: Path) -> None:
        with WebServer(folder) as server:
            _check_reads(open_store(server.address))

    def test_ranges_of_a_small_file_work_where_the_server_knows_none(self, folder: Path) -> None:
        with WebServer(folder, ranges=False) as server:
            _check_reads(open_store(server.address))

    def test_it_cannot_be_listed_or_written(self, folder: Path) -> None:
        with WebServer(folder) as server:
            store = open_store(server.address)
            with pytest.raises(UnsupportedError, match="cannot be listed"):
                list(store.list())
            with pytest.raises(UnsupportedError, match="read-only"):
                store.put("x", b"")

    def test_a_token_or_a_password_is_sent(self, folder: Path) -> None:
        with WebServer(folder, lambda _, headers: headers.get("authorization") == "Bearer abc") as server:
            assert open_store(server.address, credentials={"token": "abc"}).get("top") == b"12345"
            with pytest.raises(PermissionDeniedError, match=r"top: the server answered 401"):
                open_store(server.address).get("top")
        with WebServer(
            folder, lambda _, headers: headers.get("authorization") == basic("me", "pw")
        ) as server:
            store = open_store(server.address, credentials={"username": "me", "password": "pw"})
            assert store.get("top") == b"12345"

    @pytest.mark.parametrize("fault", ["503", "429", "drop", "short", "reset", "stall"])
    def test_a_read_that_fails_is_tried_again(
        self, folder: Path, faulty: Callable[[str], FaultyProxy], fault: Fault
    ) -> None:
        with WebServer(folder) as server:
            proxy = faulty(server.address)
            proxy.faults.extend([fault, fault])
            store = open_store(proxy.endpoint, options={"timeout_s": "0.5"})
            assert store.get_range("sub dir/obj+ect", 10, 1000) == CONTENT[10:1000]
            assert not proxy.faults

    def test_tries_are_bounded(self, folder: Path, faulty: Callable[[str], FaultyProxy]) -> None:
        with WebServer(folder) as server:
            proxy = faulty(server.address)
            proxy.always = "drop"
            with pytest.raises(UnavailableError, match="tried 2 times"):
                open_store(proxy.endpoint, options={"tries": "2"}).get("top")

    def test_options_it_does_not_know_are_refused(self) -> None:
        with pytest.raises(StoreError, match="takes no options region"):
            open_store("http://127.0.0.1:1", options={"region": "x"})


class TestHub:
    @pytest.fixture
    def running(self) -> Iterator[ExitStack]:
        with ExitStack() as stack:
            yield stack

    def test_a_dataset_repository_is_listed_and_read_through_redirects_that_get_no_token(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: ExitStack
    ) -> None:
        (tmp_path / "data" / "deep").mkdir(parents=True)
        for name in ("data/a", "data/b", "data/deep/c", "readme"):
            (tmp_path / name).write_bytes(name.encode())

        def allowed(_: str, headers: dict[str, str]) -> bool:
            return headers.get("authorization") == "Bearer T"

        with WebServer(tmp_path) as files:
            elsewhere = files.address.replace("127.0.0.1", "localhost")
            hub = running.enter_context(HubServer(tmp_path, allowed, files=elsewhere))
            monkeypatch.setenv("HF_ENDPOINT", hub.address)
            monkeypatch.setenv("HF_TOKEN", "T")
            store = open_store("hf://datasets/owner/name/data")
            assert sorted(store.list()) == [("a", 6), ("b", 6), ("deep/c", 11)]
            assert list(store.sub("deep").list()) == [("c", 11)]
            assert store.get_range("deep/c", 5, 11) == b"deep/c"
            assert store.get_tail("a", 1) == (b"a", 6)
            assert list(store.list("absent")) == []
            assert all("authorization" not in headers for _, headers in files.requests)

    def test_a_location_that_names_no_repository_is_refused(self) -> None:
        with pytest.raises(StoreError, match="hf://datasets/owner/name"):
            open_store("hf://models/x")


class TestSigned:
    def test_objects_are_reached_by_urls_that_obstore_signed(self, s3: S3) -> None:
        location = s3.location()
        store = open_store(location, credentials=s3.credentials, options=s3.options)
        store.put("shards/a b", CONTENT)
        store.put("index", b"12345")
        urls = {path: s3.sign(location, path) for path in ("shards/a b", "index")}
        signed = open_store(urls)
        assert signed.get("index") == b"12345"
        assert signed.get_range("shards/a b", 7, 300) == CONTENT[7:300]
        assert signed.get_tail("shards/a b", 3) == (CONTENT[-3:], 1024)
        assert sorted(signed.list()) == [("index", 5), ("shards/a b", 1024)]
        assert signed.sub("shards").size("a b") == 1024
        with pytest.raises(NotFoundError, match="other is not among the 2 presigned URLs"):
            signed.get("other")

    def test_of_a_plain_list_the_paths_are_what_the_urls_do_not_share(self, s3: S3) -> None:
        location = s3.location()
        store = open_store(location, credentials=s3.credentials, options=s3.options)
        store.put("shards/a", b"1")
        store.put("index", b"2")
        signed = open_store([s3.sign(location, path) for path in ("shards/a", "index")])
        assert (signed.get("shards/a"), signed.get("index")) == (b"1", b"2")

    def test_a_callback_signs_anew_before_they_expire(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"1")
        clock, signed = Clock(), [0]
        with clock, WebServer(tmp_path, lambda path, _: path.endswith(f"?signature={signed[0]}")) as server:

            def callback() -> dict[str, Any]:
                signed[0] += 1
                return {
                    "urls": {"a": f"{server.address}/a?signature={signed[0]}"},
                    "expires_at": clock.now + 60,
                }

            store = open_store({"a": ""}, credentials=callback)
            for _ in range(5):
                assert store.get("a") == b"1"
                clock.now += 50
        assert signed[0] == 5


def _check_reads(store: Store) -> None:
    assert store.get("sub dir/obj+ect") == CONTENT
    assert store.get_range("sub dir/obj+ect", 7, 300) == CONTENT[7:300]
    assert store.get_tail("sub dir/obj+ect", 10) == (CONTENT[-10:], 1024)
    assert store.sub("sub dir").size("obj+ect") == 1024
    assert (store.size("empty"), store.get("empty"), store.size("absent")) == (0, b"", None)
    with pytest.raises(NotFoundError, match="/absent: it is not there"):
        store.get("absent")
    with pytest.raises(TruncatedError, match="/top"):
        store.get_range("top", 3, 9)
    with pytest.raises(TruncatedError, match="/top"):
        store.get_range("top", 5, 9)
