"""The access log: every answer of an API is a line, whichever lane gave it."""

import asyncio
import json
import socket
import subprocess
import sys

import httpx
import pytest

from blixt.serve import ConfigError, Server, Web
from blixt.serve.testing import running, wait_until

from .apis import Sleeper, Ticker, Tools


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def until(path, count):
    wait_until(lambda: len(lines(path)) >= count, 60, f"{count} lines in the access log")
    return lines(path)


@pytest.mark.parametrize("hot_lane", [True, False], ids=["hot", "cold"])
def test_each_answer_is_a_line_in_either_lane(tmp_path, hot_lane):
    log = tmp_path / "access.log"
    server = Server([Tools(), Ticker()], accelerator="cpu", web=Web(access_log=str(log)), hot_lane=hot_lane)
    with running(server) as service, httpx.Client(base_url=service.url) as client:
        client.post("/predict", json={"do": "echo", "input": 1}, headers={"x-request-id": "r-1"})
        client.post("/predict", content=b"{", headers={"content-type": "application/json"})
        client.post("/ticks", json={"n": 3})
        client.get("/health")
        found = until(log, 3)
    assert [(line["method"], line["path"], line["status"], line["id"]) for line in found] == [
        ("POST", "/predict", 200, "r-1"),
        ("POST", "/predict", 400, ""),
        ("POST", "/ticks", 200, ""),
    ]
    assert all(line["client"] == "127.0.0.1" and line["ms"] > 0 for line in found)
    assert all(line["time"].endswith("Z") for line in found)


@pytest.mark.parametrize("hot_lane", [True, False], ids=["hot", "cold"])
def test_a_client_that_left_is_a_499(tmp_path, hot_lane):
    log = tmp_path / "access.log"
    server = Server(Sleeper(), accelerator="cpu", web=Web(access_log=str(log)), hot_lane=hot_lane)
    body = json.dumps({"gate": str(tmp_path / "gate")}).encode()
    with running(server) as service:
        url = httpx.URL(service.url)
        with socket.create_connection((url.host, url.port), 60) as client:
            head = b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n"
            client.sendall(head % len(body) + body)
            wait_until(lambda: service.metric("blixt_serve_in_flight") == 1, 60, "the request to run")
        found = until(log, 1)
        (tmp_path / "gate").touch()
    assert found[0]["status"] == 499


def test_several_fronts_write_whole_lines_into_one_file(tmp_path):
    log = tmp_path / "access.log"
    server = Server(Tools(), accelerator="cpu", web=Web(access_log=str(log)), fronts=2)

    async def load(url):
        async with httpx.AsyncClient(base_url=url) as client:
            body = {"do": "echo", "input": 1}
            await asyncio.gather(*(client.post("/predict", json=body) for _ in range(60)))

    with running(server) as service:
        asyncio.run(load(service.url))
        assert len(until(log, 60)) == 60


def test_a_file_that_cannot_be_written_is_an_error_at_the_start(tmp_path):
    with pytest.raises(ConfigError, match="cannot be written"):
        Web(access_log=str(tmp_path / "no" / "access.log")).open_access_log()


def test_the_command_writes_lines_to_standard_error(tmp_path):
    file = tmp_path / "app.py"
    source = "from blixt.serve import API\nclass Same(API):\n    def predict(self, x):\n        return x\n"
    file.write_text(source)
    command = [sys.executable, "-m", "blixt", "serve", str(file), "--port", "0", "--access-log", "-"]
    with subprocess.Popen(
        [*command, "--accelerator", "cpu"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            url = process.stdout.readline().split()[2]
            assert httpx.post(f"{url}/predict", json={"input": 1}, timeout=60).status_code == 200
            assert json.loads(process.stderr.readline())["path"] == "/predict"
        finally:
            process.terminate()
            process.communicate(timeout=60)
