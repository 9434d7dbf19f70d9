"""Servers that several test files of data share."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from .servers import azurite, seaweed
from .servers.azurite import Azure
from .servers.faulty import FaultyProxy
from .servers.seaweed import S3


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[S3]:
    """A real S3 server (SeaweedFS), one for all xdist workers of the session."""
    folder = tmp_path_factory.getbasetemp()
    with seaweed.shared((folder if worker_id == "master" else folder.parent) / "seaweed") as server:
        yield server


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azure]:
    """Azure's blob storage as Azurite emulates it; skipped where that is not installed."""
    with azurite.running(tmp_path_factory.mktemp("azurite")) as server:
        yield server


@pytest.fixture
def faulty() -> Iterator[Callable[[str], FaultyProxy]]:
    """Put a proxy that misbehaves as told before an endpoint: `faulty(s3.endpoint)`."""
    with ExitStack() as running:
        yield lambda target: running.enter_context(FaultyProxy(target))


@pytest.fixture
def cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a cache that nobody else uses, named by BLIXT_CACHE for other processes."""
    monkeypatch.setenv("BLIXT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
