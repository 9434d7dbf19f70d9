import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import APIRouter

from blixt.cloud.api import Cloud, build_app, open_cloud
from blixt.cloud.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path / "data")


@pytest.fixture
def cloud(settings: Settings) -> Iterator[Cloud]:
    opened = open_cloud(settings)
    yield opened
    opened.close()


@dataclass(frozen=True)
class Api:
    """A running server and clients for it."""

    cloud: Cloud
    url: str
    client: Callable[..., httpx.Client]
    admin: httpx.Client

    def user(self, name: str, role: str | None = None) -> httpx.Client:
        """A new user, in the default teamspace when a role is given."""
        token = self.admin.post("/api/v1/users", json={"name": name}).json()["token"]
        if role is not None:
            path = f"/api/v1/teamspaces/default/members/{name}"
            assert self.admin.put(path, json={"role": role}).status_code == 200
        return self.client(token)


@pytest.fixture
def extra_routers() -> list[APIRouter]:
    """Routers a test adds to the server; overridden where needed."""
    return []


@pytest.fixture
def api(cloud: Cloud, extra_routers: list[APIRouter]) -> Iterator[Api]:
    """A real uvicorn on a port the system chose; connections queue until it is ready."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config = uvicorn.Config(
        build_app(cloud, extra_routers),
        log_level="critical",
        timeout_graceful_shutdown=1,
        access_log=False,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    clients: list[httpx.Client] = []

    def client(token: str | None = None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # Without TLS there is no need to load certificates, which takes longer than most tests.
        clients.append(httpx.Client(base_url=url, headers=headers, timeout=60, verify=False))
        return clients[-1]

    yield Api(cloud, url, client, client(cloud.settings.token_file.read_text().strip()))
    for opened in clients:
        opened.close()
    cloud.store.close()
    server.should_exit = True
    thread.join(60)
    assert not thread.is_alive()


JOBS = "/api/v1/teamspaces/default/jobs"


def error_of(response: httpx.Response) -> dict[str, str]:
    """The error of a refused request, checked for its shape."""
    assert response.status_code >= 400, response.text
    error = response.json()["error"]
    assert {"code", "message", "hint"} <= error.keys()
    return error
