"""Stores beside S3: the web, Azure, the hub, presigned URLs, credentials that expire."""

from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from blixt.data import Dataset
from blixt.data.store import open_store

from ..samples import same
from ..servers.azurite import Azure
from ..servers.seaweed import S3
from ..servers.web import HubServer, WebServer
from ..test_store import Clock
from .places import ROWS, photo, upload


def test_a_plain_web_server_is_enough(folder: Path, cache_dir: Path) -> None:
    with WebServer(folder) as server:
        dataset = Dataset(server.address, shuffle=True)
        assert sorted(sample["label"] for sample in dataset) == list(range(ROWS))


def test_azure_is_read_like_s3(azure: Azure, folder: Path, cache_dir: Path) -> None:
    location = azure.location()
    upload(folder, open_store(location, credentials=azure.credentials, options=azure.options))
    dataset = Dataset(location, shuffle=True, credentials=azure.credentials, options=azure.options)
    assert sorted(sample["label"] for sample in dataset) == list(range(ROWS))


def test_credentials_that_expire_in_the_middle_of_an_epoch_are_renewed_before(
    folder: Path, cache_dir: Path
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
    folder: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with WebServer(folder) as files, HubServer(folder, files=files.address) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        assert same(Dataset("hf://datasets/owner/name")[321], photo(321))


def test_presigned_urls_are_enough(s3: S3, location: str, folder: Path, cache_dir: Path) -> None:
    paths = [path for path, _ in open_store(folder).list()]
    urls = {path: s3.sign(location, path) for path in paths}
    assert same(Dataset(urls)[123], photo(123))
    assert same(Dataset(list(urls.values()))[124], photo(124))


def test_the_same_data_from_another_address_is_in_the_cache_already(
    location: str, folder: Path, access: dict[str, Any]
) -> None:
    list(Dataset(location, **access))
    with WebServer(folder) as server:
        list(Dataset(server.address, cache_dir=access["cache_dir"]))
        assert [path for path, _ in server.requests if ".shard" in path] == []
