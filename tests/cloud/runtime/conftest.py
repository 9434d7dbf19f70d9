"""One server per test module, on a data folder of its own and a port the system chose."""

from collections.abc import Iterator

import pytest
from tests.cloud.runtime.cluster import Cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    running = Cluster(tmp_path_factory.mktemp("cloud"))
    yield running
    running.down()
