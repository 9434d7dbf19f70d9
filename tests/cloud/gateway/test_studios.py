"""A Studio's own origin: tickets, sessions, and what reaches the user's code."""

import httpx
import pytest

from blixt.cloud.gateway import StudioApp, StudioRoute, UnknownStudio

from .rig import OK, Recorder, Rig, status

pytestmark = pytest.mark.anyio
UID = "0123456789abcdef"


async def _studio(rig: Rig, reply: bytes = OK) -> Recorder:
    code = Recorder(lambda seen: reply)
    await rig.serve("a9", code)
    apps = {"jupyter": StudioApp(8888, {"Authorization": "token inner", "X-Inner": "1"})}
    rig.table.set_studio(StudioRoute(UID, "lab", "s", "a9", apps))
    return code


def _browser(rig: Rig, app: str = "jupyter") -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=rig.url, headers={"Host": f"{app}-0123456789ab.localhost:{rig.port}", "Accept": "text/html"}
    )


def _login_path(rig: Rig, app: str | int = "jupyter", who: str = "alice", path: str = "/") -> str:
    url = rig.gateway.issue_ticket(who, UID, app, path)
    label = f"p{app}" if isinstance(app, int) else app
    prefix = f"http://{label}-0123456789ab.localhost:{rig.port}"
    assert url.startswith(prefix + "/_blixt/login?ticket=")
    return url.removeprefix(prefix)


async def test_a_ticket_becomes_a_host_only_session_and_sends_the_browser_on(rig: Rig) -> None:
    await _studio(rig)
    async with _browser(rig) as browser:
        answer = await browser.get(_login_path(rig, path="/lab?x=1"))
    assert (answer.status_code, answer.headers["location"]) == (303, "/lab?x=1")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("blixt_studio=")
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "domain" not in cookie.lower()
    assert "alice" not in cookie
    assert answer.headers["referrer-policy"] == "no-referrer"


async def test_the_users_code_sees_its_own_headers_and_never_blixts_credentials(rig: Rig) -> None:
    code = await _studio(rig)
    async with _browser(rig) as browser:
        await browser.get(_login_path(rig))
        headers = {
            "Cookie": f"a=1; blixt_session=alice; blixt_studio={browser.cookies['blixt_studio']}; b=2",
            "Authorization": "Bearer alice",
            "X-Inner": "forged",
        }
        assert (await browser.get("/api/contents", headers=headers)).status_code == 200
    seen = code.seen[0]
    assert seen.header("cookie") == "a=1; b=2"
    assert seen.header("authorization") == "token inner"
    assert seen.header("x-inner") == "1"
    assert seen.header("host") == f"jupyter-0123456789ab.localhost:{rig.port}"
    assert "alice" not in str(seen)


async def test_a_ticket_works_once_and_only_for_its_app(rig: Rig) -> None:
    await _studio(rig)
    path = _login_path(rig)
    async with _browser(rig, "p8000") as other:
        assert (await other.get(path)).status_code == 401
    async with _browser(rig) as browser:
        assert (await browser.get(path)).status_code == 401
        fresh = _login_path(rig)
        assert (await browser.head(fresh)).status_code == 400  # a preview by HEAD does not use it up
        assert (await browser.get(fresh)).status_code == 303
        assert (await browser.get(fresh)).status_code == 401


async def test_a_session_of_one_app_does_not_open_another(rig: Rig) -> None:
    code = await _studio(rig)
    async with _browser(rig) as browser:
        await browser.get(_login_path(rig))
        cookie = {"Cookie": f"blixt_studio={browser.cookies['blixt_studio']}"}
    async with _browser(rig, "p8000") as other:
        assert (await other.get("/", headers=cookie)).status_code == 401
    assert code.seen == []


async def test_a_port_app_needs_no_entry_and_gets_no_injected_headers(rig: Rig) -> None:
    code = await _studio(rig)
    async with _browser(rig, "p8000") as browser:
        await browser.get(_login_path(rig, 8000))
        assert (await browser.get("/x")).status_code == 200
    assert code.seen[0].header("authorization") is None
    assert code.seen[0].header("x-inner") is None


async def test_a_browser_without_a_session_gets_a_page_and_a_program_gets_json(rig: Rig) -> None:
    await _studio(rig)
    async with _browser(rig) as browser:
        page = await browser.get("/")
        assert page.status_code == 401
        assert page.headers["content-type"].startswith("text/html")
        assert "<code>blixt studio open</code>" in page.text
        program = await browser.get("/", headers={"Accept": "*/*"})
        assert program.json()["error"]["code"] == "studio_session_missing"


async def test_a_token_of_a_member_opens_a_studio_to_programs(rig: Rig) -> None:
    await _studio(rig)
    async with _browser(rig) as client:
        assert (await client.get("/", headers={"Authorization": "Bearer alice"})).status_code == 200
        assert (await client.get("/", headers={"Authorization": "Bearer bob"})).status_code == 403
        assert (await client.get("/", headers={"Authorization": "Bearer nobody"})).status_code == 401


async def test_a_session_ends_with_its_users_membership(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await _studio(rig)
    clock = [0.0]
    monkeypatch.setattr("blixt.cloud.gateway.trust.time.monotonic", lambda: clock[0])
    async with _browser(rig) as browser:
        await browser.get(_login_path(rig))
        assert (await browser.get("/")).status_code == 200
        rig.members.clear()
        clock[0] += 3.0
        assert (await browser.get("/")).status_code == 403


async def test_a_form_of_another_origin_is_refused(rig: Rig) -> None:
    await _studio(rig)
    async with _browser(rig) as browser:
        await browser.get(_login_path(rig))
        assert (await browser.post("/", headers={"Origin": "http://evil.example"})).status_code == 403
        assert (await browser.get("/", headers={"Origin": "http://evil.example"})).status_code == 200
        own = f"http://jupyter-0123456789ab.localhost:{rig.port}"
        assert (await browser.post("/", headers={"Origin": own})).status_code == 200


async def test_user_code_cannot_set_blixts_cookies(rig: Rig) -> None:
    answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: blixt_studio=x\r\nSet-Cookie: own=1\r\n"
    answer += b"Set-Cookie: =blixt_session=x\r\nSet-Cookie: BLIXT_session=x\r\nContent-Length: 0\r\n\r\n"
    await _studio(rig, answer)
    async with _browser(rig) as client:
        got = await client.get("/", headers={"Authorization": "Bearer alice"})
    assert got.headers.get_list("set-cookie") == ["own=1"]


async def test_unknown_and_stopped_studios_say_so_and_never_fall_through_to_the_api(rig: Rig) -> None:
    await _studio(rig)
    rig.table.set_studio(StudioRoute("ffffffffffffffff", "lab", "off", None, {"jupyter": StudioApp(1)}))
    bearer = "Authorization: Bearer alice\r\nConnection: close\r\n\r\n"
    for host, expected in {
        "jupyter-ffffffffffff.localhost": 503,
        "jupyter-eeeeeeeeeeee.localhost": 404,
        "vscode-0123456789ab.localhost": 404,
        "p99999-0123456789ab.localhost": 404,
        "JUPYTER-0123456789AB.LOCALHOST:1": 200,
        "jupyter-0123456789ab.localhost.": 200,
        "x.localhost": 404,
    }.items():
        answer = await rig.ask(f"GET /api/v1/whoami HTTP/1.1\r\nHost: {host}\r\n{bearer}".encode())
        assert (host, status(answer)) == (host, expected)
    assert rig.api.seen == []


async def test_a_deleted_studio_ends_its_sessions(rig: Rig) -> None:
    await _studio(rig)
    async with _browser(rig) as browser:
        await browser.get(_login_path(rig))
        rig.table.remove(UID)
        assert (await browser.get("/")).status_code == 404
        rig.table.set_studio(StudioRoute(UID, "lab", "s", "a9", {"jupyter": StudioApp(8888)}))
        assert (await browser.get("/")).status_code == 401


@pytest.mark.parametrize(
    "path", ["//evil.example", "https://evil.example", "/a\r\nSet-Cookie: x=1", "/\u00e9"]
)
async def test_a_ticket_never_leads_to_another_site(rig: Rig, path: str) -> None:
    await _studio(rig)
    async with _browser(rig) as browser:
        assert (await browser.get(_login_path(rig, path=path))).headers["location"] == "/"


async def test_a_ticket_for_what_does_not_exist_is_an_error(rig: Rig) -> None:
    await _studio(rig)
    with pytest.raises(UnknownStudio):
        rig.gateway.issue_ticket("alice", "nope", "jupyter")
    with pytest.raises(UnknownStudio):
        rig.gateway.issue_ticket("alice", UID, "vscode")
