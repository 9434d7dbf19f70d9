"""Who may do what, asked over HTTP as other users."""

import httpx
import pytest
from fastapi import APIRouter

from blixt.cloud.api import Cloud, allow, build_app, public

from .conftest import JOBS, Api, error_of

JOB = {"name": "train", "spec": {"command": "true"}}


def test_a_viewer_sees_but_does_not_touch(api: Api) -> None:
    api.admin.post(JOBS, json=JOB)
    api.admin.put("/api/v1/teamspaces/default/secrets/key", json={"value": "v"})
    viewer = api.user("vic", "viewer")
    assert viewer.get(f"{JOBS}/train").status_code == 200
    assert viewer.get("/api/v1/teamspaces/default/bill").status_code == 200
    refused = [
        viewer.post(JOBS, json={**JOB, "name": "mine"}),
        viewer.patch(f"{JOBS}/train", json={"spec": {"machines": 2}}),
        viewer.delete(f"{JOBS}/train"),
        viewer.get("/api/v1/teamspaces/default/secrets/key/value"),
        viewer.put("/api/v1/teamspaces/default/secrets/key", json={"value": "w"}),
        viewer.put("/api/v1/teamspaces/default/members/vic", json={"role": "owner"}),
        viewer.post("/api/v1/teamspaces/default/experiments/e/runs", json={}),
        viewer.post("/api/v1/teamspaces/default/models/m/versions", json={}),
        viewer.post("/api/v1/teamspaces/default/blobs", content=b"x"),
        viewer.get("/api/v1/teamspaces/default/audit"),
    ]
    assert [response.status_code for response in refused] == [403] * len(refused)
    assert "viewer" in error_of(refused[0])["message"]


def test_a_member_works_but_does_not_manage(api: Api) -> None:
    member = api.user("mia", "member")
    assert member.post(JOBS, json=JOB).status_code == 201
    refused = [
        member.post("/api/v1/teamspaces/default/budgets", json={"name": "b", "spec": {"limit_uc": 1}}),
        member.put("/api/v1/teamspaces/default/members/mia", json={"role": "owner"}),
        member.post("/api/v1/users", json={"name": "friend"}),
        member.get("/api/v1/audit/verify"),
    ]
    assert [response.status_code for response in refused] == [403] * len(refused)


def test_another_teamspace_looks_as_if_it_did_not_exist(api: Api) -> None:
    eve = api.user("eve")
    api.admin.post(JOBS, json=JOB)
    for path in (JOBS, f"{JOBS}/train", "/api/v1/teamspaces/default/members"):
        assert eve.get(path).status_code == 404
    assert eve.post(JOBS, json=JOB).status_code == 404
    assert eve.get("/api/v1/teamspaces").json() == {"items": []}


def test_a_refused_mutation_is_in_the_audit_log(api: Api) -> None:
    api.user("vic", "viewer").delete(f"{JOBS}/train")
    newest = api.admin.get("/api/v1/teamspaces/default/audit").json()["items"][0]
    assert (newest["actor"], newest["action"], newest["name"], newest["outcome"]) == (
        "vic",
        "delete",
        "train",
        "denied",
    )


def test_mutations_are_audited_under_their_actor_and_the_chain_verifies(api: Api) -> None:
    mia = api.user("mia", "member")
    mia.post(JOBS, json=JOB)
    mia.delete(f"{JOBS}/train")
    items = api.admin.get("/api/v1/teamspaces/default/audit").json()["items"]
    assert [(item["actor"], item["action"]) for item in items[:2]] == [("mia", "delete"), ("mia", "create")]
    assert api.admin.get("/api/v1/audit/verify").json()["ok"]


def test_a_workloads_token_stays_in_its_teamspace(api: Api) -> None:
    token = api.cloud.identity.issue_token("admin", scope="job/train", teamspace="default", role="member")
    workload = api.client(token.secret)
    assert workload.post("/api/v1/teamspaces/default/experiments/e/runs", json={}).status_code == 201
    api.admin.post("/api/v1/teamspaces", json={"name": "other"})
    assert workload.get("/api/v1/teamspaces/other/jobs").status_code == 404
    assert workload.get("/api/v1/whoami").json()["teamspaces"] == [{"name": "default", "role": "member"}]
    refused = [
        workload.post("/api/v1/tokens", json={}),
        workload.get("/api/v1/tokens"),
        workload.post("/api/v1/login/ticket"),
        workload.post("/api/v1/teamspaces", json={"name": "mine"}),
        workload.post("/api/v1/users", json={"name": "mine"}),
    ]
    assert [response.status_code for response in refused] == [403] * len(refused)
    assert workload.post("/api/v1/login", json={"token": token.secret}).status_code == 401


def test_a_user_lists_and_revokes_only_their_own_tokens(api: Api) -> None:
    ann, bob = api.user("ann"), api.user("bob")
    made = ann.post("/api/v1/tokens", json={"label": "laptop", "expires_s": 60}).json()
    assert "laptop" in {item["label"] for item in ann.get("/api/v1/tokens").json()["items"]}
    assert made["token"] not in ann.get("/api/v1/tokens").text
    assert bob.delete(f"/api/v1/tokens/{made['id']}").status_code == 404
    assert ann.delete(f"/api/v1/tokens/{made['id']}").status_code == 200
    assert api.client(made["token"]).get("/api/v1/whoami").status_code == 401


def test_an_owner_adds_a_member_and_takes_the_place_away_again(api: Api) -> None:
    ann = api.user("ann", "member")
    assert ann.get(JOBS).status_code == 200
    members = api.admin.get("/api/v1/teamspaces/default/members").json()["items"]
    assert [(item["user"], item["role"]) for item in members] == [("admin", "owner"), ("ann", "member")]
    assert api.admin.delete("/api/v1/teamspaces/default/members/ann").status_code == 200
    assert ann.get(JOBS).status_code == 404
    assert api.admin.put("/api/v1/teamspaces/default/members/zoe", json={"role": "member"}).status_code == 404


# -- browsers ----------------------------------------------------------------------------------------------


def _browser(api: Api) -> httpx.Client:
    browser = api.client()
    token = api.cloud.settings.token_file.read_text().strip()
    signed_in = browser.post("/api/v1/login", json={"token": token}, headers={"Origin": api.url})
    assert signed_in.status_code == 200
    return browser


def test_a_browser_signs_in_with_a_cookie_no_script_can_read_and_out_again(api: Api) -> None:
    browser = _browser(api)
    assert browser.get("/api/v1/whoami").json()["user"]["name"] == "admin"
    (cookie,) = list(browser.cookies.jar)
    assert cookie.name == "blixt_session"
    assert cookie.has_nonstandard_attr("HttpOnly")
    assert cookie.get_nonstandard_attr("SameSite") == "lax"
    value = cookie.value
    assert browser.post("/api/v1/logout", headers={"Origin": api.url}).status_code == 200
    assert api.client(value).get("/api/v1/whoami").status_code == 401


@pytest.mark.parametrize("origin", [None, "https://evil.example", "null", "http://127.0.0.1:1"])
def test_a_cookie_with_a_mutation_from_another_site_is_refused(api: Api, origin: str | None) -> None:
    browser = _browser(api)
    headers = {} if origin is None else {"Origin": origin}
    refused = browser.post(JOBS, json=JOB, headers=headers)
    assert refused.status_code == 403
    assert api.cloud.store.list() == []


def test_a_cookie_with_a_mutation_from_the_console_is_served(api: Api) -> None:
    assert _browser(api).post(JOBS, json=JOB, headers={"Origin": api.url}).status_code == 201


def test_a_one_time_link_signs_in_once(api: Api) -> None:
    made = api.admin.post("/api/v1/login/ticket").json()
    assert made["url"] == f"{api.url}/?ticket={made['ticket']}"
    first, second = api.client(), api.client()
    assert first.post("/api/v1/login", json={"ticket": made["ticket"]}).status_code == 200
    assert first.get("/api/v1/whoami").status_code == 200
    assert second.post("/api/v1/login", json={"ticket": made["ticket"]}).status_code == 401


def test_a_wrong_token_does_not_sign_in(api: Api) -> None:
    refused = api.client().post("/api/v1/login", json={"token": "wrong"})
    assert refused.status_code == 401
    assert "data folder" in error_of(refused)["hint"]
    assert api.client().post("/api/v1/login", json={}).status_code == 400


def test_every_answer_carries_the_security_headers(api: Api) -> None:
    for path in ("/", "/api/v1/health", "/api/v1/nothing"):
        headers = api.client().get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'self'" in headers["content-security-policy"]


# -- declarations ------------------------------------------------------------------------------------------


def test_a_route_that_does_not_say_who_may_call_it_stops_the_server(cloud: Cloud) -> None:
    router = APIRouter()

    @router.get("/open-door")
    def open_door() -> str:
        return "come in"

    with pytest.raises(RuntimeError, match="GET /open-door"):
        build_app(cloud, [router])


def test_an_undeclared_websocket_stops_the_server_too(cloud: Cloud) -> None:
    router = APIRouter()

    @router.websocket("/open-socket")
    async def open_socket() -> None: ...

    with pytest.raises(RuntimeError, match="WS /open-socket"):
        build_app(cloud, [router])


def test_a_route_that_names_a_right_no_rule_knows_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="'fly'"):
        allow("fly", "job")


def test_routers_handed_in_are_served_below_the_api(cloud: Cloud) -> None:
    router = APIRouter()

    @router.get("/door")
    @public
    def door() -> str:
        return "come in"

    app = build_app(cloud, [router])
    assert "/api/v1/door" in app.openapi()["paths"]
