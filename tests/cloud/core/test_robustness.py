"""Whatever is sent, the answer is an error of the API and never a fault of the server."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blixt.cloud.api import build_app, open_cloud
from blixt.cloud.errors import Invalid
from blixt.cloud.money import ledger
from blixt.cloud.settings import Settings

from .conftest import Api, error_of

NASTY: list[Any] = [
    None,
    True,
    10**400,
    "",
    "a" * 100_000,
    "\0",
    "\ud800",
    "../../etc/passwd",
    "'; DROP TABLE objects; --",
    [[[[]]]],
    {"a": {"b": [None]}},
    {"\ud800": "\ud800"},
]
PLURALS = ["studios", "jobs", "deployments", "experiments", "models", "budgets"]


def _operations(api: Api) -> list[tuple[str, str, dict[str, Any]]]:
    """One operation for each JSON body, from the server's own OpenAPI page."""
    page = api.admin.get("/api/v1/openapi.json").json()
    found: dict[tuple[str, str], tuple[str, str, dict[str, Any]]] = {}
    for path, operations in page["paths"].items():
        for method, operation in operations.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if body is not None:
                text = json.dumps(body["schema"])
                name = text.split("schemas/")[1].split('"')[0]
                # The kinds share their bodies; one kind stands for all.
                found[method, name] = (method, path, page["components"]["schemas"][name])
    return list(found.values())


def _send(client: httpx.Client, method: str, path: str, body: Any) -> httpx.Response:
    content = json.dumps(body).encode()
    return client.request(method, path, content=content, headers={"Content-Type": "application/json"})


def test_nasty_values_in_every_field_of_every_body_never_break_the_server(api: Api) -> None:
    for method, path, schema in _operations(api):
        real = path
        for name, value in {
            "ts": "default",
            "name": "a",
            "version": "1",
            "run_id": "r",
            "token_id": "t",
        }.items():
            real = real.replace(f"{{{name}}}", value)
        if real.endswith(("/login", "/logout")):
            continue
        for body in NASTY:
            assert _send(api.admin, method, real, body).status_code < 500, (method, path, body)
        for field in schema.get("properties", {}):
            for value in NASTY:
                sent = {"name": "fine", "spec": {}, field: value}
                sent = {key: item for key, item in sent.items() if key in schema["properties"]}
                answer = _send(api.admin, method, real, sent)
                assert answer.status_code < 500, (method, path, field, value, answer.text)
                if answer.status_code >= 400:
                    error_of(answer)
    for plural in PLURALS:
        assert api.admin.get(f"/api/v1/teamspaces/default/{plural}").status_code == 200


def test_nasty_names_and_queries_in_addresses_never_break_the_server(api: Api) -> None:
    page = api.admin.get("/api/v1/openapi.json").json()
    for path, operations in page["paths"].items():
        if "get" not in operations or path.endswith("/watch"):
            continue
        for nasty in ("%00", "%ed%a0%80", "a" * 5000, "..%2f..", "9" * 40):
            real = path
            for name in ("{name}", "{version}", "{run_id}", "{path}", "{blob_id}", "{token_id}"):
                real = real.replace(name, nasty)
            for teamspace in ("default", nasty):
                answer = api.admin.get(real.replace("{ts}", teamspace))
                assert answer.status_code < 500, (path, nasty, answer.text)
            query = (
                f"limit={nasty}&since={nasty}&label={nasty}&names={nasty}&max_points={nasty}&before={nasty}"
            )
            assert api.admin.get(f"{real.replace('{ts}', 'default')}?{query}").status_code < 500


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spec=st.dictionaries(st.sampled_from(["command", "machine", "env", "secrets", "labels", "x"]), JSON))
def test_any_json_as_a_spec_is_created_or_refused_and_can_be_read_back(
    api: Api, spec: dict[str, Any]
) -> None:
    path = "/api/v1/teamspaces/default/jobs"
    answer = _send(api.admin, "POST", path, {"name": "any", "spec": spec})
    assert answer.status_code in (201, 422), answer.text
    if answer.status_code == 201:
        assert api.admin.get(f"{path}/any").json()["spec"] == answer.json()["spec"]
        assert api.admin.delete(f"{path}/any").status_code == 200


@pytest.mark.parametrize("header", ["Bearer", "Basic YTpi", "Bearer \xff", "x" * 5000, "Bearer a b c"])
def test_a_strange_authorization_header_is_nobody(api: Api, header: str) -> None:
    raw = header.encode("latin-1")
    answer = api.client().get("/api/v1/whoami", headers=[(b"Authorization", raw)])
    assert answer.status_code in (400, 401)


# -- the console -------------------------------------------------------------------------------------------


def test_the_console_is_served_with_its_pages_and_assets(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from starlette.testclient import TestClient

    static = tmp_path / "static"
    (static / "assets").mkdir(parents=True)
    (static / "index.html").write_text("<title>console</title>")
    (static / "assets" / "app-1a2b.js").write_text("let a")
    monkeypatch.setattr("blixt.cloud.api.console.console_response.__defaults__", (static,))
    cloud = open_cloud(settings)
    client = TestClient(build_app(cloud))
    assert "console" in client.get("/").text
    assert "console" in client.get("/jobs/train").text
    assert "immutable" in client.get("/assets/app-1a2b.js").headers["cache-control"]
    assert client.get("/assets/gone.js").status_code == 404
    assert client.get("/..%2f..%2fdata%2ftoken").text == client.get("/").text
    assert client.get("/d/default/gpt/v1").status_code == 404
    cloud.close()


def test_without_a_built_console_the_page_says_how_to_build_it(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from starlette.testclient import TestClient

    monkeypatch.setattr("blixt.cloud.api.console.console_response.__defaults__", (tmp_path / "none",))
    cloud = open_cloud(settings)
    page = TestClient(build_app(cloud)).get("/")
    assert (page.status_code, "python console/build.py" in page.text) == (200, True)
    cloud.close()


# -- starting and dying ------------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from blixt.cloud.api import open_cloud
from blixt.cloud.settings import Settings
cloud = open_cloud(Settings(Path(sys.argv[1])))
for n in range(100_000):
    name = f"j{n}"
    job = cloud.store.create("job", "default", name, {"command": "x"}, owner="admin", actor="admin")
    cloud.money.place_hold(name, job, "cpu-1", n)
    cloud.money.open_segment(name, job, "cpu-1", n)
    cloud.money.close_segment(name, n + 3600)
    upload = cloud.registry.blobs.content.begin()
    upload.write(name.encode())
    cloud.registry.blobs.put("default", upload, actor="admin")
    print(n, flush=True)
"""


@pytest.mark.parametrize("after", [3, 17])
def test_a_killed_server_leaves_a_database_that_is_whole(tmp_path: Path, after: int) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) >= after:
            break
    child.send_signal(signal.SIGKILL)
    child.wait(60)
    child.stdout.close()

    cloud = open_cloud(Settings(tmp_path))
    jobs = cloud.store.list("job")
    assert len(jobs) >= after
    assert cloud.store.last_seq() == len(cloud.store.changes(0, 10_000)) == len(jobs)
    assert cloud.audit.verify().ok
    with cloud.db.read() as s:
        assert ledger.check(s) == ""
    closed = cloud.money.bill("default").lines
    assert -cloud.money.bill("default").balance_uc == sum(line.amount_uc for line in closed if not line.open)
    incoming = cloud.settings.blobs_dir / "incoming"
    assert not incoming.exists() or list(incoming.iterdir()) == []
    assert cloud.identity.authenticate(cloud.settings.token_file.read_text().strip()) is not None
    cloud.close()
    with sqlite3.connect(tmp_path / "blixt.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_settings_come_from_arguments_then_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLIXT_DATA_DIR", str(tmp_path / "env"))
    monkeypatch.setenv("BLIXT_PORT", "9000")
    assert Settings.resolve() == Settings(tmp_path / "env", "127.0.0.1", 9000)
    assert Settings.resolve(tmp_path / "arg", "0.0.0.0", 1) == Settings(tmp_path / "arg", "0.0.0.0", 1)
    monkeypatch.setenv("BLIXT_PORT", "http")
    with pytest.raises(Invalid, match="'http'"):
        Settings.resolve()


def test_a_data_folder_that_cannot_be_made_is_an_error_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Invalid, match="Cannot make the data folder"):
        open_cloud(Settings(tmp_path / "file" / "data"))


def test_importing_the_cloud_needs_neither_torch_nor_the_database_driver() -> None:
    code = "import sys, blixt.cloud, blixt.cloud.errors; print([m for m in sys.modules if m in sys.argv])"
    names = ["torch", "sqlalchemy", "fastapi", "pydantic", "alembic"]
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
