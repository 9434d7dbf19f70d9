"""Uvicorn's settings: what each does to both lanes, and which are refused, by name."""

import asyncio
import socket
import struct
from contextlib import ExitStack

import httpx
import pytest

from blixt.serve import Limits, Server, Web
from blixt.serve.errors import ConfigError
from blixt.serve.listen import Listening, listen_many
from blixt.serve.testing import running, wait_until
from blixt.serve.uvicorn_options import check

from .apis import Tools

LISTENING_BACKLOG = slice(28, 32)  # of struct tcp_info, for a socket that listens
CROWD = 50
ECHO = {"do": "echo", "input": 1}


def tell_loop(app):
    """A route that says which event loop runs."""

    @app.get("/loop")
    async def loop() -> str:
        return type(asyncio.get_running_loop()).__module__


@pytest.fixture(scope="module", params=["httptools", "h11"])
def served(request, tmp_path_factory):
    """`(service, parser, log)`: a server with settings that show."""
    log = tmp_path_factory.mktemp("log") / "uvicorn.log"
    handler = {"class": "logging.FileHandler", "filename": str(log)}
    told = {
        "http": request.param,
        "loop": "asyncio",
        "headers": [("x-zone", "north")],
        "server_header": False,
        "date_header": False,
        "limit_concurrency": CROWD,
        "log_config": {
            "version": 1,
            "handlers": {"file": handler},
            "loggers": {"uvicorn": {"handlers": ["file"]}},
        },
    }
    limits = Limits(keep_alive_s=600)
    server = Server(Tools(), accelerator="cpu", web=Web(extend=tell_loop), limits=limits)
    with running(server, uvicorn=told, log_level="info") as service:
        yield service, request.param, log


def test_the_parser_decides_whether_there_is_a_hot_lane(served):
    service, parser, _ = served
    [api] = service.info()["apis"]
    expected = ("hot", "a plain route") if parser == "httptools" else ("cold", 'http="h11"')
    assert (api["lane"], api["lane_reason"]) == expected
    assert httpx.post(f"{service.url}/predict", json=ECHO).json() == {"output": 1}


@pytest.mark.parametrize(("method", "path"), [("POST", "/predict"), ("GET", "/predict"), ("GET", "/health")])
def test_headers_of_ones_own_are_on_every_answer_and_the_usual_ones_may_be_left_out(served, method, path):
    answer = httpx.request(method, f"{served[0].url}{path}", json=ECHO if method == "POST" else None)
    assert answer.headers["x-zone"] == "north"
    assert not {"server", "date"} & set(answer.headers)


def test_more_connections_than_the_limit_are_503(served):
    url = httpx.URL(served[0].url)
    assert httpx.post(f"{url}/predict", json=ECHO).status_code == 200
    with ExitStack() as stack:
        for _ in range(CROWD):  # accepted in order, so that whoever comes next finds all of them
            stack.enter_context(socket.create_connection((url.host, url.port)))
        assert httpx.post(f"{url}/predict", json=ECHO).status_code == 503
        assert httpx.get(f"{url}/health").status_code == 503
    wait_until(lambda: httpx.post(f"{url}/predict", json=ECHO).status_code == 200, 60, "them to be gone")


def test_the_loop_and_the_log_are_those_that_were_asked_for(served):
    service, _, log = served
    assert httpx.get(f"{service.url}/loop").json().startswith("asyncio")
    assert "Application startup complete" in log.read_text()


def test_so_many_connections_may_wait_to_be_accepted():
    for sock in listen_many("127.0.0.1", 0, None, 2, Listening(uvicorn={"backlog": 7}).backlog):
        with sock:
            told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
            assert struct.unpack("I", told[LISTENING_BACKLOG]) == (7,)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"root_path": "/x"}, r"write Web\(root_path=...\)"),
        ({"lifespan": "off"}, "workers live as long"),
        ({"colour": 1}, "no setting 'colour'"),
        ({"loop": "trio"}, "loop='trio' is none of auto, uvloop"),
        ({"http": "h12"}, "http='h12' is none of"),
        ({"backlog": 0}, "backlog=0 is no count"),
        ({"limit_concurrency": -1}, "limit_concurrency=-1 is no count"),
    ],
)
def test_what_cannot_be_obeyed_is_refused_by_name(given, sentence, capsys):
    with pytest.raises(ConfigError, match=sentence):
        check(given)
    with pytest.raises(SystemExit) as ended:
        Server(Tools(), accelerator="cpu").run(port=0, uvicorn=given)
    assert ended.value.code == 2
    assert next(iter(given)) in capsys.readouterr().err
