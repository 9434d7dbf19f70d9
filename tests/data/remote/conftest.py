"""A dataset in S3 behind a proxy that misbehaves as told; no test changes it, those that must take a copy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blixt.data.store import open_store

from ..samples import write_dataset
from ..servers.faulty import FaultyProxy
from ..servers.seaweed import S3
from .places import ROWS, photo, upload


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six shards of about 1 MB."""
    samples = [photo(i) for i in range(ROWS)]
    return write_dataset(tmp_path_factory.mktemp("data") / "photos", samples, chunk_bytes="1MB")


@pytest.fixture(scope="session")
def location(s3: S3, folder: Path) -> str:
    address = s3.location()
    upload(folder, open_store(address, credentials=s3.credentials, options=s3.options))
    return address


@pytest.fixture(scope="session")
def large(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> str:
    """One shard of about 15 MB."""
    folder = write_dataset(tmp_path_factory.mktemp("data") / "large", [photo(i) for i in range(1500)])
    address = s3.location()
    upload(folder, open_store(address, credentials=s3.credentials, options=s3.options))
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
        "options": {**s3.options, "endpoint": proxy.endpoint, "timeout_s": "30"},
        "cache_dir": cache_dir,
    }
