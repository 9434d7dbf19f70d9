"""Fixtures that the tests of the client and of the command line share."""

import uuid
from collections.abc import Iterator

import pytest

from blixt.client import Client
from client.server import Server, running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("cloud")) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with server.client() as client:
        yield client


@pytest.fixture
def teamspace(server: Server) -> Iterator[Client]:
    """A connection to a teamspace of the test's own."""
    name = "t-" + uuid.uuid4().hex[:10]
    with server.client() as admin:
        admin.create_teamspace(name)
    with server.client(name) as client:
        yield client
