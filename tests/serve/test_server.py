"""Settings, keys, several APIs, metrics, unix sockets, and the app inside another process."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from blixt.serve import API, ConfigError, Limits, OpenAISpec, ServeError, Server, run_file
from blixt.serve.devices import cuda_device_count, resolve_devices
from blixt.serve.http.auth import KeyRing
from blixt.serve.listen import listen
from blixt.serve.testing import running, wait_until

from .apis import Parrot, Ticker, Tools, Typed


@pytest.mark.parametrize(
    ("headers", "opens"),
    [
        ([(b"authorization", b"Bearer s3cret")], True),
        ([(b"authorization", b"bearer s3cret")], True),
        ([(b"x-api-key", b"s3cret")], True),
        ([(b"authorization", b"Basic s3cret")], False),
        ([(b"authorization", b"Bearer s3cre")], False),
        ([(b"x-api-key", b"")], False),
        ([], False),
    ],
)
def test_what_opens_the_door(headers, opens):
    assert KeyRing("s3cret").authorized(headers) is opens
    assert KeyRing(None).authorized(headers)


def test_a_key_guards_every_route_but_health_and_docs():
    apis = [Tools(), Parrot(spec=OpenAISpec("parrot"))]
    with running(Server(apis, accelerator="cpu", api_key="s3cret")) as service:
        body = {"do": "echo", "input": 1}
        for path in ("/predict", "/v1/chat/completions"):
            answer = httpx.post(f"{service.url}{path}", json=body)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert httpx.get(f"{service.url}/metrics").status_code == 401
        assert httpx.get(f"{service.url}/info").status_code == 401
        assert httpx.get(f"{service.url}/health").status_code == 200
        for headers in ({"authorization": "Bearer s3cret"}, {"x-api-key": "s3cret"}):
            assert httpx.post(f"{service.url}/predict", json=body, headers=headers).status_code == 200
            assert httpx.get(f"{service.url}/metrics", headers=headers).status_code == 200


def test_the_key_comes_from_the_environment_by_default(monkeypatch):
    monkeypatch.setenv("BLIXT_SERVE_API_KEY", "from-env")
    assert Server(Tools(), accelerator="cpu").api_key == "from-env"
    assert Server(Tools(), accelerator="cpu", api_key="given").api_key == "given"


def test_metrics_are_counted_by_api_and_status(service):
    def total(**labels):
        return service.metric("blixt_serve_requests_total", **labels)

    before = total(api="/typed", status="200"), total(api="/typed", status="422"), total(api="/predict")
    for body in ({"x": 1}, {"x": 2}, {"x": "no"}):
        httpx.post(f"{service.url}/typed", json=body)
    after = total(api="/typed", status="200"), total(api="/typed", status="422"), total(api="/predict")
    assert [b - a for a, b in zip(before, after, strict=True)] == [2, 1, 0]
    assert service.metric("blixt_serve_workers_ready", api="/typed") == 1
    assert service.metric("blixt_serve_in_flight", api="/typed") == 0
    assert service.metric("blixt_serve_worker_busy_seconds_total", api="/typed") > 0


def test_metrics_are_well_formed_prometheus_text(service):
    answer = httpx.get(f"{service.url}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    declared = set()
    for line in answer.text.splitlines():
        if line.startswith("# TYPE"):
            assert line.split()[2] not in declared
            declared.add(line.split()[2])
        elif not line.startswith("#"):
            name, value = line.split("{")[0].split()[0], line.rsplit(" ", 1)[1]
            assert (
                name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") in declared
                or name in declared
            )
            float(value)


def test_the_app_serves_inside_another_process_too():
    server = Server([Tools(), Ticker()], accelerator="cpu")
    with TestClient(server.app) as client:
        assert client.post("/predict", json={"do": "echo", "input": 5}).json() == {"output": 5}
        assert client.post("/ticks", json={"n": 2}).text.count("data:") == 2
        assert client.get("/health").text == "ok"
    with TestClient(server.app) as client:  # and again
        assert client.post("/predict", json={"do": "echo", "input": 6}).json() == {"output": 6}


def test_a_middleware_of_the_user_sees_the_requests():
    server = Server(Tools(), accelerator="cpu")

    @server.app.middleware("http")
    async def stamp(request, call_next):
        answer = await call_next(request)
        answer.headers["x-stamp"] = "seen"
        return answer

    with TestClient(server.app) as client:
        assert client.post("/predict", json={"do": "echo", "input": 5}).headers["x-stamp"] == "seen"


def test_a_unix_socket_serves_and_a_stale_one_is_replaced(tmp_path):
    path = tmp_path / "blixt.sock"
    listen("", 0, str(path)).close()  # a file that nobody listens on, as after a kill
    code = (
        "from serve.apis import Tools; from blixt.serve import Server\n"
        f"if __name__ == '__main__': Server(Tools(), accelerator='cpu').run(uds={str(path)!r})\n"
    )
    script = tmp_path / "uds_app.py"
    script.write_text(code)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen([sys.executable, str(script)], env=env, stdout=subprocess.DEVNULL) as process:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://blixt") as client:

            def ready():
                try:
                    return client.get("/ready").status_code == 200
                except httpx.TransportError:
                    return False

            wait_until(ready, 60, "readiness")
            assert client.post("/predict", json={"do": "echo", "input": 1}).json() == {"output": 1}
        process.terminate()
        assert process.wait(60) == 0


class NoPredict(API):
    pass


class Strange(API):
    def predict(self, x: socket.socket):
        return x


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Server([]), "at least one API"),
        (lambda: Server(NoPredict()), "NoPredict has no predict method"),
        (lambda: Server(Strange()), "Strange.predict takes <class 'socket.socket'>"),
        (lambda: Server([Tools(), Tools()]), "Two APIs claim /predict"),
        (lambda: Server(Tools(api_path="/health")), "the server's own route"),
        (lambda: Server(Tools(api_path="predict")), "does not begin with '/'"),
        (lambda: Server(Tools(max_batch_size=0)), "max_batch_size=0 is not a number of at least 1"),
        (lambda: Server(Tools(batch_timeout_s=-1)), "batch_timeout_s=-1"),
        (lambda: Server(Tools(), timeout_s=0), "timeout_s=0 is not a positive number"),
        (lambda: Server(Tools(), workers_per_device=0), "workers_per_device=0"),
        (lambda: Server(Tools(), workers_per_device=[1, 2]), "has 2 counts for 1 API"),
        (
            lambda: Server(Tools(), workers_per_device={"/predikt": 2}),
            "names '/predikt', which no API serves",
        ),
        (lambda: Server(Tools(), fronts=0), "fronts=0 is neither"),
        (lambda: Server(Tools(), fronts="many"), "fronts='many' is neither"),
        (lambda: Server(Tools(), accelerator="tpu"), "accelerator='tpu' is unknown"),
        (lambda: Server(Tools(), accelerator="cpu", devices=0), "devices=0 is not"),
        (lambda: Server(Tools(), api_key=""), "api_key is empty"),
        (lambda: Server(Tools, accelerator="cpu"), "pass instances"),
        (lambda: OpenAISpec(model=""), "model is empty"),
        (lambda: run_file("missing.py"), "missing.py does not exist"),
        (lambda: Limits(max_queue=-1), "max_queue=-1"),
    ],
)
def test_a_wrong_setting_is_one_clear_sentence(make, sentence):
    with pytest.raises(ConfigError) as error:
        make()
    assert sentence in str(error.value)


def test_devices_are_named_per_worker(tmp_path, monkeypatch):
    assert resolve_devices("cpu", "auto") == ["cpu"]
    assert resolve_devices("cpu", 3) == ["cpu", "cpu", "cpu"]
    assert Server(Typed(), accelerator="cpu", devices=2, workers_per_device=2).devices == ["cpu"] * 4
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert cuda_device_count(tmp_path) == 2
    assert [cuda_device_count(tmp_path, v) for v in ("0,1", "1", "", "-1", "0,-1")] == [2, 1, 0, 0, 1]


def test_importing_the_room_loads_neither_torch_nor_a_web_framework():
    code = (
        "import sys, blixt.serve; from blixt.serve import API, Server, OpenAISpec, HTTPError, run_file\n"
        "print([m for m in ('torch', 'numpy', 'fastapi', 'uvicorn', 'pydantic') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("nothing.py", "x = 1", "defines nothing to serve"),
        ("broken.py", "import nowhere_to_be_found", "fails on import: ModuleNotFoundError"),
        ("json.py", "", "hides another module"),
        ("no-name.py", "", "cannot be imported"),
        (
            "needs.py",
            "from blixt.serve import API\nclass A(API):\n  def __init__(self, x): pass",
            "A() fails",
        ),
    ],
)
def test_a_file_that_cannot_be_served_is_explained(tmp_path, monkeypatch, name, text, sentence):
    monkeypatch.setattr(sys, "path", sys.path[:])
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=sentence.replace("(", r"\(").replace(")", r"\)")):
        run_file(tmp_path / name)


def test_an_app_without_its_lifespan_says_so():
    app = Server(Tools(), accelerator="cpu").app
    with pytest.raises(ServeError, match="only within its lifespan"):
        TestClient(app).post("/predict", json={"do": "pid"})
