import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from .conftest import JOBS, Api, error_of

JOB = {"name": "train", "spec": {"command": ["python", "train.py"]}}


def test_an_object_is_created_read_changed_and_deleted(api: Api) -> None:
    made = api.admin.post(JOBS, json={**JOB, "labels": {"team": "red"}})
    assert made.status_code == 201
    assert made.json()["owner"] == "admin"
    assert api.admin.get(f"{JOBS}/train").json() == made.json()
    changed = api.admin.patch(f"{JOBS}/train", json={"spec": {"max_restarts": 3}}).json()
    assert (changed["revision"], changed["spec"]["command"]) == (2, ["python", "train.py"])
    listed = api.admin.get(JOBS, params={"label": "team=red"}).json()
    assert [item["name"] for item in listed["items"]] == ["train"]
    assert listed["seq"] == 2
    assert api.admin.delete(f"{JOBS}/train").json()["deleting"]
    assert error_of(api.admin.get(f"{JOBS}/train"))["code"] == "not_found"


def test_of_two_people_the_second_learns_that_the_first_was_faster(api: Api) -> None:
    ann, bob = api.user("ann", "member"), api.user("bob", "member")
    ann.post(JOBS, json=JOB)
    revision = bob.get(f"{JOBS}/train").json()["revision"]
    change = {"revision": revision, "spec": {"command": "by ann"}}
    assert ann.put(f"{JOBS}/train", json=change).status_code == 200
    refused = bob.put(f"{JOBS}/train", json={**change, "spec": {"command": "by bob"}})
    assert refused.status_code == 409
    assert "revision 2, not 1" in error_of(refused)["message"]
    assert bob.get(f"{JOBS}/train").json()["spec"]["command"] == "by ann"
    assert bob.patch(f"{JOBS}/train", json={"spec": {}, "revision": 1}).status_code == 409


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"spec": {"command": "x"}}, "'name'"),
        ({"name": "a", "spec": {}}, "'command'"),
        ({"name": "a", "spec": {"command": "x", "machine": "cpu-77"}}, "'cpu-77'"),
        ({"name": "a", "spec": {"command": "x", "processes": "two"}}, "processes"),
        ({"name": "a", "spec": {"command": "x"}, "color": 1}, "'color'"),
        ({"name": 7, "spec": {"command": "x"}}, "name"),
        ({"name": "Not A Name", "spec": {"command": "x"}}, "'Not A Name'"),
        ({"name": "a", "spec": {"command": "x"}, "labels": {"k": 1}}, "labels"),
    ],
)
def test_a_wrong_body_is_422_naming_the_field(api: Api, body: dict[str, Any], says: str) -> None:
    refused = api.admin.post(JOBS, json=body)
    assert refused.status_code == 422
    assert says in error_of(refused)["message"]


def test_errors_have_one_shape_wherever_they_come_from(api: Api) -> None:
    admin = api.admin
    seen = {
        "bad json": admin.post(JOBS, content=b"{", headers={"Content-Type": "application/json"}),
        "no body": admin.post(JOBS),
        "not json": admin.post(JOBS, content=b"name=a"),
        "unknown route": admin.get("/api/v1/nothing"),
        "unknown post": admin.post("/api/v1/nothing"),
        "method": admin.delete("/api/v1/whoami"),
        "nobody": api.client().get("/api/v1/whoami"),
        "teamspace": admin.get("/api/v1/teamspaces/nowhere/jobs"),
        "kind": admin.get("/api/v1/teamspaces/default/dragons"),
        "query": admin.get("/api/v1/watch", params={"since": "soon"}),
        "label": admin.get(JOBS, params={"label": "red"}),
    }
    codes = {name: (response.status_code, error_of(response)["code"]) for name, response in seen.items()}
    assert codes == {
        "bad json": (400, "bad_request"),
        "no body": (422, "invalid"),
        "not json": (422, "invalid"),
        "unknown route": (404, "not_found"),
        "unknown post": (404, "not_found"),
        "method": (405, "method_not_allowed"),
        "nobody": (401, "unauthenticated"),
        "teamspace": (404, "not_found"),
        "kind": (404, "not_found"),
        "query": (422, "invalid"),
        "label": (422, "invalid"),
    }


def test_a_huge_json_body_is_413(api: Api) -> None:
    refused = api.admin.post(JOBS, json={"name": "a", "spec": {"command": "x" * 17_000_000}})
    assert refused.status_code == 413
    error_of(refused)


def test_a_huge_json_body_without_a_length_is_413(api: Api) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"name": "'
        for _ in range(17):
            yield b"a" * 1_000_000

    refused = api.admin.post(JOBS, content=pieces(), headers={"Content-Type": "application/json"})
    assert refused.status_code == 413


# -- watch -------------------------------------------------------------------------------------------------


def _events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    for line in response.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def test_a_watcher_sees_changes_as_they_are_committed(api: Api) -> None:
    with api.client(api.cloud.settings.token_file.read_text().strip()).stream(
        "GET", "/api/v1/watch", params={"kind": "job", "since": 0}
    ) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = _events(response)
        api.admin.post(JOBS, json=JOB)
        first = next(events)
        assert (first["seq"], first["type"], first["object"]["name"]) == (1, "created", "train")
        api.admin.post("/api/v1/teamspaces/default/studios", json={"name": "s"})
        api.admin.delete(f"{JOBS}/train")
        last = next(events)
        assert (last["seq"], last["type"]) == (3, "deleted")


def test_a_watch_goes_on_where_it_broke_off(api: Api) -> None:
    for name in ("a", "b", "c"):
        api.admin.post(JOBS, json={**JOB, "name": name})
    with api.admin.stream("GET", "/api/v1/watch", headers={"Last-Event-ID": "1"}) as response:
        events = _events(response)
        assert [next(events)["object"]["name"] for _ in range(2)] == ["b", "c"]


def test_a_watcher_sees_only_teamspaces_they_are_in(api: Api) -> None:
    ann = api.user("ann")
    ann.post("/api/v1/teamspaces", json={"name": "anns"})
    api.admin.post(JOBS, json=JOB)
    with ann.stream("GET", "/api/v1/watch", params={"since": 0}) as response:
        events = _events(response)
        ann.post("/api/v1/teamspaces/anns/jobs", json={**JOB, "name": "mine"})
        assert next(events)["object"]["name"] == "mine"
    assert ann.get("/api/v1/watch", params={"teamspace": "default"}).status_code == 404


def test_a_watch_ends_when_its_token_is_revoked(api: Api) -> None:
    token = api.admin.post("/api/v1/tokens", json={"label": "watcher"}).json()
    with api.client(token["token"]).stream("GET", "/api/v1/watch", params={"since": 0}) as response:
        events = _events(response)
        api.admin.post(JOBS, json=JOB)
        assert next(events)["type"] == "created"
        api.admin.delete(f"/api/v1/tokens/{token['id']}")
        api.admin.delete(f"{JOBS}/train")
        assert list(events) == []


# -- money and secrets over HTTP ---------------------------------------------------------------------------


def test_machines_have_prices_in_micro_credits(api: Api) -> None:
    machines = {item["name"]: item for item in api.admin.get("/api/v1/machines").json()["items"]}
    assert machines["cpu-1"]["price_uc_per_hour"] == 50_000
    assert machines["cpu-1"]["available"]
    assert not machines["gpu-1"]["available"]


def test_a_budget_shows_what_is_spent_held_and_left(api: Api) -> None:
    budgets = "/api/v1/teamspaces/default/budgets"
    api.admin.post(budgets, json={"name": "all", "spec": {"limit_uc": 100_000}})
    job = api.cloud.store.create("job", "default", "a", {"command": "x"}, owner="admin", actor="admin")
    api.cloud.money.place_hold("a1", job, "cpu-1", 0.0)
    api.cloud.money.open_segment("a1", job, "cpu-1", 0.0)
    api.cloud.money.close_segment("a1", 3600.0)
    api.cloud.money.place_hold("a2", job, "cpu-2", 0.0)
    status = api.admin.get(f"{budgets}/all").json()["status"]
    assert status == {"spent_uc": 50_000, "held_uc": 1667, "remaining_uc": 48_333}
    bill = api.admin.get("/api/v1/teamspaces/default/bill").json()
    assert (bill["total_uc"], bill["remaining_uc"], bill["balance_uc"]) == (50_000, 48_333, -50_000)
    ledger = api.admin.get("/api/v1/teamspaces/default/ledger").json()["items"]
    assert [entry["amount_uc"] for entry in ledger] == [-50_000]


def test_what_a_budget_does_not_cover_is_402_and_not_created(api: Api) -> None:
    budget = {"name": "small", "spec": {"limit_uc": 1000}}
    api.admin.post("/api/v1/teamspaces/default/budgets", json=budget)
    assert api.admin.post(JOBS, json=JOB).status_code == 201
    two: dict[str, Any] = {"name": "two", "spec": {"command": "x", "machines": 2}}
    refused = api.admin.post(JOBS, json=two)
    assert refused.status_code == 402
    assert "needs 0.001668 cr" in error_of(refused)["message"]
    assert "has 0.0010 cr left of 0.0010 cr" in error_of(refused)["message"]
    assert "Raise the budget" in error_of(refused)["hint"]
    assert api.admin.get(f"{JOBS}/two").status_code == 404
    two["spec"]["desired"] = "stopped"
    assert api.admin.post(JOBS, json=two).status_code == 201
    assert api.admin.patch(f"{JOBS}/two", json={"spec": {"desired": "running"}}).status_code == 402
    assert api.admin.get(f"{JOBS}/two").json()["spec"]["desired"] == "stopped"


def test_a_secret_is_put_listed_without_its_value_and_revealed(api: Api) -> None:
    secrets = "/api/v1/teamspaces/default/secrets"
    put = api.admin.put(f"{secrets}/api-key", json={"value": "s3cr3t"})
    assert put.status_code == 200
    shown = put.text + api.admin.get(secrets).text + api.admin.get(f"{secrets}/api-key").text
    assert "s3cr3t" not in shown + json.dumps([change.to_json() for change in api.cloud.store.changes(0)])
    assert api.admin.get(f"{secrets}/api-key/value").json()["value"] == "s3cr3t"
    audit = api.admin.get("/api/v1/teamspaces/default/audit").json()["items"]
    assert (audit[0]["action"], audit[0]["kind"], audit[0]["name"]) == ("reveal", "secret", "api-key")


def test_a_wrong_secret_is_not_echoed_back(api: Api) -> None:
    refused = api.admin.put("/api/v1/teamspaces/default/secrets/k", json={"value": ["s3cr3t"]})
    assert refused.status_code == 422
    assert "s3cr3t" not in refused.text
