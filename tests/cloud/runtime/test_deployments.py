"""Deployments: woken by a request, as many replicas as needed, back on their feet after a crash."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from tests.cloud.runtime.cluster import Cluster, wait_until

SERVER = """
import os, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/slow":
            time.sleep(3)
        if self.path == "/die":
            os._exit(9)
        body = f"{os.environ['BLIXT_REPLICA']} {os.getpid()} {os.environ.get('COLOUR', '')}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *args):
        print("request", self.path, flush=True)

ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
COMMAND = ["python", "-c", SERVER]


def _ask(cluster: Cluster, name: str, path: str = "", token: str | None = None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token or cluster.token}"}
    url = f"{cluster.url}/d/default/{name}/{path}"
    return httpx.get(url, headers=headers, timeout=60, trust_env=False)


def _replicas(cluster: Cluster, name: str) -> list[dict]:
    return cluster.get("deployments", name)["status"]["replicas"]


def _delete(cluster: Cluster, name: str) -> None:
    cluster.http.delete(f"teamspaces/default/deployments/{name}").raise_for_status()
    path = f"teamspaces/default/deployments/{name}"
    wait_until(lambda: cluster.http.get(path).status_code == 404, "it is gone")


def test_a_request_wakes_it_and_silence_puts_it_to_sleep(cluster: Cluster) -> None:
    cluster.create("deployments", "sleeper", command=COMMAND, idle_timeout_s=1)
    assert _replicas(cluster, "sleeper") == []
    assert _ask(cluster, "sleeper").text.startswith("r1 ")
    cluster.wait_state("deployments", "sleeper", "ready", "sleeping")
    counted = "the request is counted, at most a second late"
    wait_until(lambda: cluster.get("deployments", "sleeper")["status"]["requests_total"] == 1, counted)
    cluster.wait_state("deployments", "sleeper", "sleeping")
    (line,) = cluster.bill_lines("sleeper")
    assert (line["segments"], line["open"]) == (1, False)
    assert "request /" in cluster.log_text("deployments/sleeper", replica="r1")
    assert _ask(cluster, "sleeper").text.startswith("r2 ")
    _delete(cluster, "sleeper")


@pytest.mark.usefixtures("sandbox")
def test_a_killed_replica_is_replaced(cluster: Cluster) -> None:
    cluster.create("deployments", "tough", command=COMMAND, min_replicas=1)
    cluster.wait_state("deployments", "tough", "ready")
    (replica,) = _replicas(cluster, "tough")
    os.kill(cluster.agent_pid(replica["allocation"]), signal.SIGKILL)
    wait_until(lambda: all(r["id"] != replica["id"] for r in _replicas(cluster, "tough")), "it is noticed")
    assert _ask(cluster, "tough").status_code == 200
    _delete(cluster, "tough")


def test_a_crashing_command_is_replaced_and_counted(cluster: Cluster) -> None:
    cluster.create("deployments", "clumsy", command=COMMAND)
    assert _ask(cluster, "clumsy").status_code == 200
    url, headers = f"{cluster.url}/d/default/clumsy/die", {"Authorization": f"Bearer {cluster.token}"}
    assert httpx.post(url, headers=headers, timeout=60, trust_env=False).status_code == 502
    assert _ask(cluster, "clumsy").status_code == 200
    assert cluster.get("deployments", "clumsy")["status"]["failures"] == 1
    _delete(cluster, "clumsy")


def test_load_brings_more_replicas(cluster: Cluster) -> None:
    cluster.create("deployments", "busy", command=COMMAND, max_replicas=2, concurrency=1, idle_timeout_s=2)
    assert _ask(cluster, "busy").status_code == 200
    stop = threading.Event()

    def hammer() -> None:
        while not stop.is_set():
            _ask(cluster, "busy", "slow")

    with ThreadPoolExecutor(3) as pool:
        work = [pool.submit(hammer) for _ in range(3)]
        try:
            wait_until(
                lambda: sum(r["state"] == "ready" for r in _replicas(cluster, "busy")) == 2, "two serve"
            )
        finally:
            stop.set()
        for future in work:
            future.result()
    _delete(cluster, "busy")


def test_a_command_that_never_serves_fails_with_its_last_words(cluster: Cluster) -> None:
    cluster.create("deployments", "broken", command="echo cannot find the moon; exit 3", min_replicas=1)
    status = cluster.wait_state("deployments", "broken", "failed")["status"]
    assert "5 replicas failed in a row" in status["reason"]
    assert "exited with code 3: cannot find the moon" in status["reason"]
    assert _ask(cluster, "broken").status_code == 503
    patched = {"spec": {"command": COMMAND}}
    cluster.http.patch("teamspaces/default/deployments/broken", json=patched).raise_for_status()
    cluster.wait_state("deployments", "broken", "ready")
    _delete(cluster, "broken")


def test_traffic_does_not_flood_the_change_log(cluster: Cluster) -> None:
    cluster.create("deployments", "chatty", command=COMMAND)
    assert _ask(cluster, "chatty").status_code == 200
    before = cluster.http.get("teamspaces/default/deployments").json()["seq"]
    with cluster.client(cluster.token) as client:
        for _ in range(50):
            assert client.get(f"{cluster.url}/d/default/chatty/").status_code == 200
    wait_until(
        lambda: cluster.get("deployments", "chatty")["status"]["requests_total"] == 51, "all are counted"
    )
    assert cluster.http.get("teamspaces/default/deployments").json()["seq"] - before < 25
    _delete(cluster, "chatty")


def test_a_changed_spec_replaces_the_replicas(cluster: Cluster) -> None:
    cluster.create("deployments", "painted", command=COMMAND, min_replicas=1, env={"COLOUR": "red"})
    cluster.wait_state("deployments", "painted", "ready")
    assert _ask(cluster, "painted").text.endswith(" red")
    patched = {"spec": {"env": {"COLOUR": "blue"}}}
    cluster.http.patch("teamspaces/default/deployments/painted", json=patched).raise_for_status()
    wait_until(lambda: _ask(cluster, "painted").text.endswith(" blue"), "the new one serves")
    wait_until(lambda: len(_replicas(cluster, "painted")) == 1, "the old one is gone")
    _delete(cluster, "painted")


def test_stop_refuses_requests_and_start_serves_again(cluster: Cluster) -> None:
    cluster.create("deployments", "paused", command=COMMAND)
    assert _ask(cluster, "paused").status_code == 200
    cluster.post("deployments/paused/stop").raise_for_status()
    cluster.wait_state("deployments", "paused", "stopped")
    assert _ask(cluster, "paused").status_code == 503
    cluster.post("deployments/paused/start").raise_for_status()
    cluster.wait_state("deployments", "paused", "sleeping", "starting", "ready")
    assert _ask(cluster, "paused").status_code == 200
    _delete(cluster, "paused")


def test_a_deployment_goes_on_serving_after_the_server_was_killed(cluster: Cluster) -> None:
    cluster.create("deployments", "steady", command=COMMAND, idle_timeout_s=600)
    before = _ask(cluster, "steady").text
    cluster.kill_server()
    wait_until(lambda: cluster.http.get("health").status_code == 200, "the API answers")
    assert _ask(cluster, "steady").text == before  # the same process, not another one
    _delete(cluster, "steady")


def test_a_model_is_downloaded_before_the_command_starts(cluster: Cluster) -> None:
    job = "cd $BLIXT_MODEL_OUT; echo '{}' > config.json; mkdir sub; echo w > sub/w"
    cluster.create("jobs", "train", command=job, model="net")
    cluster.wait_state("jobs", "train", "succeeded")
    serve = "cd $BLIXT_MODEL_DIR && exec python -m http.server $PORT --bind 127.0.0.1"
    cluster.create("deployments", "served", model="net", command=serve, health_path="/")
    assert _ask(cluster, "served", "sub/w").text == "w\n"
    _delete(cluster, "served")


def test_a_stranger_may_not_use_it(cluster: Cluster) -> None:
    cluster.create("deployments", "private", command=COMMAND)
    stranger = cluster.http.post("users", json={"name": "sam"}).json()["token"]
    assert _ask(cluster, "private", token=stranger).status_code in (403, 404)
    _delete(cluster, "private")
