"""The app without a framework answers as the whole app does, and hands over what it does not know."""

import subprocess
import sys

import httpx
import pytest

from blixt.serve import Server
from blixt.serve.http.doorman import suffices
from blixt.serve.http.web import Web
from blixt.serve.testing import running

from .apis import Ticker, Tools, Typed

KEY = {"x-api-key": "s3cret"}


def leave_as_it_is(app):
    """A server with such a setting has the whole app from the start."""


@pytest.fixture(scope="module")
def pair():
    def make(web):
        return Server([Tools(), Typed()], accelerator="cpu", api_key="s3cret", web=web)

    with running(make(None)) as light, running(make(Web(extend=leave_as_it_is))) as whole:
        yield light.url, whole.url


@pytest.mark.parametrize("headers", [{}, KEY])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
@pytest.mark.parametrize(
    "path", ["/health", "/ready", "/health?x=1", "/nope", "/v1/models", "/predict", "/predict/", "/shutdown"]
)
def test_it_answers_as_the_whole_app(pair, path, method, headers):
    light, whole = (httpx.request(method, f"{url}{path}", headers=headers, timeout=60) for url in pair)
    assert (light.status_code, light.content) == (whole.status_code, whole.content)
    kept = [{k: v for k, v in answer.headers.items() if k != "date"} for answer in (light, whole)]
    assert kept[0] == kept[1]


@pytest.mark.parametrize("path", ["/info", "/metrics"])
def test_its_own_pages_look_the_same_and_need_the_key(pair, path):
    for url in pair:
        assert httpx.get(f"{url}{path}").status_code == 401
    light, whole = (httpx.get(f"{url}{path}", headers=KEY) for url in pair)
    names = ("content-type", "content-encoding", "vary")
    said = [[answer.headers.get(name, "").lower() for name in names] for answer in (light, whole)]
    assert said[0] == said[1]
    if path == "/info":
        assert [api.keys() for api in light.json()["apis"]] == [api.keys() for api in whole.json()["apis"]]
    else:
        assert shape(light.text) == shape(whole.text)


def shape(text):
    return [line.rsplit(" ", 1)[0] for line in text.splitlines() if "requests_total{" not in line]


def test_docs_and_schema_come_from_the_whole_app_when_somebody_asks(pair):
    schemas = [httpx.get(f"{url}/openapi.json", timeout=60).json() for url in pair]
    assert schemas[0] == schemas[1]
    assert "/typed" in schemas[0]["paths"]
    assert httpx.get(f"{pair[0]}/docs").status_code == 200


def test_a_server_that_needs_more_has_the_whole_app_at_once():
    assert suffices([Tools(), Ticker()], None)
    assert not suffices([Tools()], Web(cors=["https://a.example"]))
    assert not suffices([Tools()], Web(mcp=True))
    assert not suffices([Tools()], Web(extend=leave_as_it_is))


def test_a_front_that_serves_lanes_and_probes_never_imports_the_framework():
    code = (
        "import sys\n"
        "from blixt.serve.http import doorman, uvicorn_server, hot\n"
        "import blixt.serve.fronts_single, blixt.serve.service\n"
        "print([name for name in ('fastapi', 'pydantic', 'torch', 'numpy') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
