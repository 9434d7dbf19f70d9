from collections.abc import Iterator

import pytest

from blixt.client import Client
from client.server import Server, start


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server, process = start(tmp_path_factory.mktemp("server"))
    yield server
    process.terminate()
    process.wait(30)


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with server.client() as client:
        yield client


@pytest.fixture
def teamspace(server: Server, request: pytest.FixtureRequest) -> Iterator[Client]:
    """A connection to a teamspace of the test's own."""
    import uuid

    name = "t-" + uuid.uuid4().hex[:10]
    with server.client() as admin:
        admin.create_teamspace(name)
    with server.client(teamspace=name) as client:
        yield client
