"""The pages about moving here: their programs run, and the new ones answer as the old ones do."""

import importlib
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from blixt.serve.testing import wait_until

PAGES = Path(__file__).parents[2] / "docs" / "serve"


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Writes a page's titled programs into a folder that Python imports from."""

    def write(page):
        found = re.findall(r'```python title="(\w+\.py)"\n(.*?)```', (PAGES / page).read_text(), re.DOTALL)
        for name, text in found:
            (tmp_path / name).write_text(text)
            monkeypatch.delitem(sys.modules, name.removesuffix(".py"), raising=False)
        monkeypatch.syspath_prepend(tmp_path)
        return tmp_path

    yield write
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)


REQUESTS = [
    ("good and lovely", {"x-user": "ada"}),
    ("bad", {"x-user": "bob"}),
    ("unknown words", {"x-user": "ada"}),
    ("good", {"x-user": "eve"}),
    ("good", {}),
    ("", {"x-user": "ada"}),
    (7, {"x-user": "ada"}),
]


def test_the_fastapi_app_and_its_successor_answer_alike(programs):
    programs("from-fastapi.md")
    before, after = (importlib.import_module(name) for name in ("before", "after"))
    with TestClient(before.app) as old, TestClient(after.server.app) as new:
        for text, headers in REQUESTS:
            answers = [c.post("/predict", json={"text": text}, headers=headers) for c in (old, new)]
            assert answers[0].status_code == answers[1].status_code, answers[1].text
            assert told(answers[0].json()) == told(answers[1].json())
        for client in (old, new):
            assert client.get("/version").json() == "7"
            assert client.get("/version", headers={"host": "elsewhere"}).status_code == 400
            assert client.post("/predict", json={}, headers={"x-user": "ada"}).status_code == 422


def test_the_litserve_script_and_its_successor_answer_alike(programs):
    folder = programs("from-litserve.md")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "blixt.compat.litserve", "server.py"]
    script = subprocess.Popen(words, cwd=folder, env={**os.environ, "PORT": str(port)})
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as old:
            wait_until(lambda: answers(old), 120, "the script to serve")
            with TestClient(importlib.import_module("app").server.app) as new:
                for number in (3, 0.5, -1):
                    old_answer, new_answer = (c.post("/predict", json={"input": number}) for c in (old, new))
                    assert old_answer.json() == new_answer.json() == {"output": number**2}
                assert old.post("/predict", json={}).status_code == 500
                refused = new.post("/predict", json={})
                assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["body", "input"])
    finally:
        script.send_signal(signal.SIGTERM)
        assert script.wait(60) == 0


def told(body):
    """An answer without what a 422 of FastAPI's repeats of the request."""
    if isinstance(body.get("detail"), list):
        return {"detail": [{key: item[key] for key in ("type", "loc", "msg")} for item in body["detail"]]}
    return body


def answers(client):
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False
