"""What routers of other rooms get from the API: WebSockets with rights, one shape for faults."""

import json

import httpx
import pytest
from fastapi import APIRouter, WebSocket
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from blixt.cloud.api import allow, public, websocket_principal
from blixt.cloud.identity import Principal

from .conftest import Api, error_of


@pytest.fixture
def extra_routers() -> list[APIRouter]:
    router = APIRouter()

    @router.websocket("/teamspaces/{ts}/studios/{name}/shell")
    async def shell(
        websocket: WebSocket, ts: str, name: str, caller: Principal = allow("shell", "studio")
    ) -> None:
        await websocket.accept()
        await websocket.send_text(f"{caller.user} in {name}")
        await websocket.close()

    @router.websocket("/who")
    @public
    async def who(websocket: WebSocket) -> None:
        caller = await websocket_principal(websocket)
        await websocket.accept()
        await websocket.send_text("nobody" if caller is None else caller.user)
        await websocket.close()

    @router.get("/fault")
    @public
    def fault() -> None:
        raise ZeroDivisionError("secret detail")

    return [router]


def _open(api: Api, path: str, **headers: str) -> ClientConnection:
    return connect(
        f"{api.url.replace('http', 'ws')}/api/v1{path}", additional_headers=headers, open_timeout=10
    )


def _bearer(api: Api) -> str:
    return api.admin.headers["Authorization"]


SHELL = "/teamspaces/default/studios/lab/shell"


def test_a_websocket_knows_its_caller(api: Api) -> None:
    with _open(api, SHELL, Authorization=_bearer(api)) as socket:
        assert socket.recv(timeout=60) == "admin in lab"


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), (None, 404)])
def test_a_websocket_is_refused_with_the_status_and_sentence_of_a_request(
    api: Api, role: str | None, status: int
) -> None:
    user = api.user("vic", role)
    with pytest.raises(InvalidStatus) as refused:
        _open(api, SHELL, Authorization=user.headers["Authorization"])
    assert refused.value.response.status_code == status
    assert "message" in json.loads(refused.value.response.body or b"")["error"]


def test_a_websocket_of_nobody_is_401(api: Api) -> None:
    with pytest.raises(InvalidStatus) as refused:
        _open(api, SHELL)
    assert refused.value.response.status_code == 401


def test_a_websocket_with_a_cookie_must_come_from_the_consoles_pages(api: Api) -> None:
    browser = api.client()
    browser.post("/api/v1/login", json={"token": _bearer(api).removeprefix("Bearer ")})
    cookie = f"blixt_session={browser.cookies['blixt_session']}"
    for headers in ({}, {"Origin": "https://evil.example"}):
        with pytest.raises(InvalidStatus) as refused:
            _open(api, SHELL, Cookie=cookie, **headers)
        assert refused.value.response.status_code == 403
    with _open(api, SHELL, Cookie=cookie, Origin=api.url) as socket:
        assert socket.recv(timeout=60) == "admin in lab"


def test_a_websocket_that_checks_its_caller_itself_is_told_who_it_is(api: Api) -> None:
    with _open(api, "/who") as socket:
        assert socket.recv(timeout=60) == "nobody"
    with _open(api, "/who", Authorization=_bearer(api)) as socket:
        assert socket.recv(timeout=60) == "admin"


def test_a_fault_of_the_server_is_an_error_in_the_same_shape_without_its_detail(api: Api) -> None:
    answer = api.admin.get("/api/v1/fault")
    assert answer.status_code == 500
    assert error_of(answer)["code"] == "internal"
    assert "secret detail" not in answer.text
    assert httpx.get(f"{api.url}/api/v1/health").status_code == 200  # uvicorn ends the faulty connection
