"""One server per test module, on a data folder of its own and a port the system chose."""

from collections.abc import Iterator

import pytest
from tests.cloud.runtime.cluster import Cluster

from blixt.cloud.engines.local import LocalEngine


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a test asks for that looks at walls, or at the first process behind them."""
    warning = LocalEngine(tmp_path_factory.mktemp("probe")).warning
    if warning:
        pytest.skip(warning)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    running = Cluster(tmp_path_factory.mktemp("cloud"))
    yield running
    running.down()
