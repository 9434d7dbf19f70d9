"""Uvicorn's settings in `LitServer.run`: each to real effect, or refused by name."""

import base64
import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from blixt.compat import litserve as ls
from blixt.compat.litserve.run_options import options_of

from . import apis

ROOT = Path(__file__).parents[3]

CODE = """
import os
import sys

from fastapi import Request
from blixt.compat import litserve as ls
from tests.compat.litserve.apis import Square

if __name__ == "__main__":
    server = ls.LitServer(Square(), accelerator="cpu", max_payload_size=10000)

    @server.app.get("/who")
    async def who(request: Request) -> dict:
        return {"host": request.client.host, "scheme": request.url.scheme, "root": request.scope["root_path"],
                "secret": os.environ.get("LS_SECRET")}

    server.run(
        fd=int(sys.argv[1]), env_file=sys.argv[2], generate_client_file=False,
        root_path="/api/", proxy_headers=True, forwarded_allow_ips="127.0.0.1", access_log=True,
        headers=[("x-zone", "north")], server_header=False, timeout_keep_alive=7,
        lifespan="auto", workers=None,
    )
"""


def test_each_setting_has_its_effect(tmp_path):
    settings = tmp_path / "settings.env"
    settings.write_text("LS_SECRET=hunter2\n")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        words = [sys.executable, "-c", CODE, str(listening.fileno()), str(settings)]
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, text=True, pass_fds=[listening.fileno()], cwd=ROOT
        )
    try:
        forwarded = {"x-forwarded-for": "10.1.2.3", "x-forwarded-proto": "https"}
        answer = httpx.get(f"{url}/who", headers=forwarded, timeout=120)
        told = {"host": "10.1.2.3", "scheme": "https", "root": "/api", "secret": "hunter2"}
        assert answer.json() == told
        assert (answer.headers["x-zone"], "server" in answer.headers) == ("north", False)
        for prefix in ("", "/api"):  # whether the proxy cuts it off or not
            answer = httpx.post(f"{url}{prefix}/predict", json={"input": 3}, timeout=120)
            assert answer.json()["output"] == 9
            assert answer.headers["x-zone"] == "north"
        assert httpx.get(f"{url}/openapi.json", timeout=60).json()["servers"] == [{"url": "/api"}]
    finally:
        process.terminate()
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert 'POST /predict HTTP/1.1" 200' in said.replace("/api/predict", "/predict")


TLS_CODE = """
import sys

from blixt.compat import litserve as ls
from tests.compat.litserve.apis import Square

if __name__ == "__main__":
    ls.LitServer(Square(), accelerator="cpu").run(fd=int(sys.argv[1]), generate_client_file=False)
"""


def test_a_certificate_in_the_environment_makes_it_https(tmp_path):
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key -out cert"
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*words.split(), *names], cwd=tmp_path, check=True, capture_output=True)
    cert, key = (base64.b64encode((tmp_path / name).read_bytes()).decode() for name in ("cert", "key"))
    (tmp_path / "tmp").mkdir()
    own = {"LIGHTNING_CERT_PEM": cert, "LIGHTNING_KEY_FILE": key, "TMPDIR": str(tmp_path / "tmp")}
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"https://127.0.0.1:{listening.getsockname()[1]}"
        words = [sys.executable, "-c", TLS_CODE, str(listening.fileno())]
        process = subprocess.Popen(words, pass_fds=[listening.fileno()], cwd=ROOT, env={**os.environ, **own})
    try:
        trusted = ssl.create_default_context(cafile=tmp_path / "cert")
        answer = httpx.post(f"{url}/predict", json={"input": 3}, timeout=120, verify=trusted)
        assert answer.json()["output"] == 9
    finally:
        process.terminate()
        assert process.wait(60) == 0
    assert [path.name for path in (tmp_path / "tmp").iterdir() if path.suffix in (".pem", ".key")] == []


def test_settings_that_come_after_the_server_reach_its_limits():
    server = ls.LitServer(apis.Square(), accelerator="cpu")
    options = options_of({"timeout_keep_alive": 75, "h11_max_incomplete_event_size": 100_000})
    server._server.obey(options)
    limits = server._server.service.limits
    assert (limits.keep_alive_s, limits.max_header_bytes) == (75, 100_000)
    assert options.uvicorn == {"proxy_headers": True}


def test_what_is_said_that_holds_anyway_is_passed_over():
    options = options_of(
        {"loop": "auto", "reload": False, "interface": "auto", "http": "h11", "access_log": False}
    )
    assert options.uvicorn == {"proxy_headers": True, "http": "h11", "access_log": False}


@pytest.mark.parametrize(
    ("given", "error", "sentence"),
    [
        ({"colour": 1}, TypeError, "unexpected keyword argument 'colour'"),
        ({"workers": 4}, TypeError, "workers=4: write num_api_servers"),
        ({"reload": True}, TypeError, "--reload"),
        ({"limit_max_requests": 9}, TypeError, "does not end after"),
        ({"timeout_graceful_shutdown": 9}, TypeError, "LitServe's `run`"),
        ({"lifespan": "off"}, TypeError, "workers live as long"),
        ({"http2": True}, TypeError, "HTTP/1.1"),
        ({"loop": "trio"}, ValueError, "loop='trio' is none of"),
    ],
)
def test_what_cannot_be_obeyed_is_refused_by_name(given, error, sentence):
    server = ls.LitServer(apis.Square(), accelerator="cpu")
    with pytest.raises(error, match=sentence):
        server.run(port=8000, generate_client_file=False, **given)
    assert not os.path.exists("client.py")
