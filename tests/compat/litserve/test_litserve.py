"""LitServe's names, arguments and answers on blixt's servers."""

import contextlib
import json
import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import Field

from blixt.compat import litserve as ls
from blixt.compat.litserve import docker_builder
from blixt.compat.litserve.__main__ import main as command_line
from blixt.compat.litserve.app import LitAnswers
from blixt.compat.litserve.mcp import MCP, extract_input_schema
from blixt.compat.litserve.utils import (
    add_log_handler,
    add_ssl_context_from_env,
    azip,
    call_after_stream,
    wrap_litserve_start,
)
from blixt.serve.testing import wait_until

from . import apis

pytestmark = pytest.mark.filterwarnings("ignore:Custom API path")


@contextlib.contextmanager
def serving(api, **settings):
    server = ls.LitServer(api, **{"accelerator": "cpu", "timeout": 300, **settings})
    with wrap_litserve_start(server) as started, TestClient(started.app) as client:
        yield client


def ask(client, path, *bodies):
    with ThreadPoolExecutor(len(bodies)) as pool:
        return list(pool.map(lambda body: client.post(path, json=body), bodies))


@pytest.fixture(scope="module")
def client():
    """One server with a LitAPI of every sort."""
    some = [
        apis.Square(),
        apis.Fails(api_path="/fails"),
        apis.Batched(api_path="/batched", max_batch_size=2, batch_timeout=60),
        apis.Short(api_path="/short", max_batch_size=2, batch_timeout=60),
        apis.Words(api_path="/words", stream=True),
        apis.BatchedWords(api_path="/batched-words", stream=True, max_batch_size=2, batch_timeout=60),
        apis.Async(api_path="/async", enable_async=True),
        apis.AsyncWords(api_path="/async-words", enable_async=True, stream=True),
        apis.Typed(api_path="/typed"),
        apis.Upload(api_path="/upload"),
        apis.Chat(spec=ls.OpenAISpec()),
        apis.Embed(spec=ls.OpenAIEmbeddingSpec()),
        apis.Locked(api_path="/locked"),
        apis.WrongEmbed(spec=ls.OpenAIEmbeddingSpec(), api_path="/v2/embeddings"),
        apis.Vectors(
            spec=ls.OpenAIEmbeddingSpec(), api_path="/v3/embeddings", max_batch_size=2, batch_timeout=60
        ),
        apis.Power(api_path="/tools/power", mcp=MCP()),
    ]
    with serving(some, model_metadata={"name": "m"}) as client:
        wait_until(lambda: client.get("/health").status_code == 200, 240, "all sixteen LitAPIs to be ready")
        yield client


def test_hooks_run_in_order_on_a_worker_with_its_id_and_device(client):
    answer = client.post("/predict", json={"input": 4})
    assert answer.json() == {"output": 16, "worker": "0", "device": "cpu"}


def test_the_front_page_health_and_info_are_litserves(client):
    assert client.get("/").text == "litserve running"
    assert client.get("/health").text == "ok"
    info = client.get("/info").json()
    assert info["model"] == {"name": "m"}
    assert info["server"]["stream"]["/words"] is True
    assert info["server"]["devices"] == ["cpu"]


def test_an_http_exception_keeps_its_status_and_headers(client):
    answer = client.post("/fails", json={"input": "http"})
    assert (answer.status_code, answer.json(), answer.headers["x-tea"]) == (
        418,
        {"detail": "teapot"},
        "green",
    )


def test_any_other_error_is_a_500_that_tells_nothing(client):
    answer = client.post("/fails", json={"input": 1})
    assert (answer.status_code, answer.json()) == (500, {"detail": "Internal server error"})


def test_a_worker_that_dies_is_a_500_and_is_replaced(client):
    assert client.post("/fails", json={"input": "die"}).status_code == 500
    assert client.post("/fails", json={"input": "http"}).status_code == 418


def test_requests_share_a_batch_and_keep_their_contexts(client):
    answers = ask(client, "/batched", {"name": "ada"}, {"name": "bob"})
    assert [answer.json() for answer in answers] == [
        {"output": "ADA", "name": "ada", "size": 2},
        {"output": "BOB", "name": "bob", "size": 2},
    ]


def test_a_batch_with_too_few_outputs_says_so(client):
    answers = ask(client, "/short", {"name": "ada"}, {"name": "bob"})
    assert [answer.json() for answer in answers] == [{"detail": "Batch size mismatch"}] * 2


def test_a_stream_is_its_pieces_as_text(client):
    assert client.post("/words", json={"prompt": "a b c"}).text == "abc"
    assert client.post("/words", json={"prompt": "do re dum"}).text == '{"word": "do"}\nre{"word": "dum"}\n'


def test_a_stream_whose_worker_dies_just_ends(client):
    answer = client.post("/words", json={"prompt": "die"})
    assert (answer.status_code, answer.text) == (200, "")
    assert client.post("/words", json={"prompt": "a b"}).text == "ab"


def test_streams_of_a_batch_run_in_step(client):
    answers = ask(client, "/batched-words", {"prompt": "A B"}, {"prompt": "C D"})
    assert [answer.text for answer in answers] == ["ab", "cd"]


def test_async_hooks_answer_and_stream(client):
    assert client.post("/async", json={"input": 1}).json() == {"output": 2}
    assert client.post("/async-words", json={"n": 2}).text == '{"n": 0}\n{"n": 1}\n'


def test_a_pydantic_annotation_is_validated(client):
    assert client.post("/typed", json={"x": 4}).json() == 8
    refused = client.post("/typed", json={"x": "four"})
    assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["body", "x"])


def test_annotations_of_hooks_are_in_the_schema(client):
    schema = client.get("/openapi.json").json()
    body = schema["paths"]["/typed"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert (body["title"], body["required"]) == ("Body", ["x"])


def test_forms_and_files_are_read(client):
    answer = client.post("/upload", files={"file": ("a.bin", b"12345")}, data={"plus": "10"})
    assert answer.json() == 15


def test_a_chat_answers_whole_and_streamed_with_usage(client):
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.5}
    answer = client.post("/v1/chat/completions", json=body).json()
    assert answer["choices"][0]["message"]["content"] == "hi 0.5"
    assert answer["usage"]["completion_tokens"] == 3
    lines = client.post("/v1/chat/completions", json={**body, "stream": True, "n": 2}).text.splitlines()
    *told, end = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert end == "[DONE]"
    *pieces, last = map(json.loads, told)
    first = [piece["choices"][0]["delta"] for piece in pieces if piece["choices"][0]["index"] == 0]
    assert first == [{"role": "assistant", "content": text} for text in ("hi ", "0.5")]
    assert [(c["index"], c["delta"], c["finish_reason"]) for c in last["choices"]] == [
        (0, {}, "stop"),
        (1, {}, "stop"),
    ]
    assert last["usage"]["completion_tokens"] == 6


def test_tool_calls_of_a_whole_answer_are_numbered(client):
    tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": [tool]}
    message = client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]
    assert [(call["index"], call["id"]) for call in message["tool_calls"]] == [(0, "c")]


def test_a_wrong_chat_is_refused_in_fastapis_shape(client):
    answer = client.post("/v1/chat/completions", json={"messages": [{"content": "no role"}]})
    assert (answer.status_code, answer.json()["detail"][0]["loc"][:2]) == (422, ["body", "messages"])


def test_vectors_in_batches_need_no_encoding(client):
    answers = ask(client, "/v3/embeddings", *({"input": text, "model": "m"} for text in ("one", "three")))
    assert [answer.json()["data"][0]["embedding"] for answer in answers] == [[3.0, 1.0], [5.0, 1.0]]


@pytest.mark.anyio
async def test_every_piece_of_a_stream_is_a_message_of_its_own():
    async def app(scope, receive, send):
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'data: "a"\n\ndata: "b"\n\n', "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/s"}
    await LitAnswers(app, frozenset({"/s"}))(scope, None, send)
    assert [(m["body"], m.get("more_body", False)) for m in sent[1:]] == [
        (b"a", True),
        (b"b", True),
        (b"", False),
    ]


@pytest.mark.anyio
async def test_who_waited_too_long_is_told_so_in_litserves_words():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 504, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})

    async with httpx.AsyncClient(transport=httpx.ASGITransport(LitAnswers(app, frozenset()))) as client:
        answer = await client.post("http://test/predict")
    assert (answer.status_code, answer.json()) == (504, {"detail": "Request timed out"})


def test_openais_routes_answer_preflights_with_nothing(client):
    assert (
        client.options("/v1/chat/completions").status_code == client.get("/v1/embeddings").status_code == 200
    )


def test_embeddings_come_as_floats_or_base64(client):
    body = {"input": ["one", "three"], "model": "m"}
    answer = client.post("/v1/embeddings", json=body).json()
    assert [item["embedding"] for item in answer["data"]] == [[3.0, 1.0], [5.0, 1.0]]
    assert answer["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    packed = client.post("/v1/embeddings", json={**body, "encoding_format": "base64"}).json()
    assert isinstance(packed["data"][0]["embedding"], str)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("one", "Expected response to be a dictionary"), ("three", "does not contain the key 'embeddings'")],
)
def test_an_answer_without_embeddings_raises_where_http_is_answered(client, text, sentence):
    with pytest.raises(ValueError, match=sentence):
        client.post("/v2/embeddings", json={"input": text, "model": "m"})


def test_a_litapi_is_a_tool_named_after_its_path_whose_argument_is_the_request(client):
    (tool,) = apis.rpc(client, "tools/list")["tools"]
    assert (tool["name"], tool["description"]) == ("tools_power", "Raises a number to a power.")
    schema = tool["inputSchema"]
    assert (schema["properties"], schema["required"]) == ({"request": {"$ref": "#/$defs/Body"}}, ["request"])
    assert schema["$defs"]["Body"]["properties"]["exponent"]["minimum"] == 0
    answer = apis.rpc(client, "tools/call", name="tools_power", arguments={"request": {"base": 3}})
    assert answer["content"][0]["text"] == "9.0"


def test_a_tools_arguments_are_a_functions_parameters():
    def act(name: str, is_new: bool | None, many: list[int], age: int = 20, size=Field(gt=0, default=3)): ...

    schema = extract_input_schema(act)
    assert schema["required"] == ["name", "is_new", "many"]
    assert schema["properties"] == {
        "name": {"title": "Name", "type": "string"},
        "is_new": {"title": "Is New", "type": "boolean", "nullable": True},
        "many": {"title": "Many", "type": "array"},
        "age": {"title": "Age", "type": "integer"},
        "size": {"title": "Size", "type": "string", "exclusiveMinimum": 0, "default": 3},
    }
    with pytest.raises(RuntimeError, match="not connected to a LitAPI"):
        MCP(description="Lonely.", input_schema={"x": "string"}, name="/a/b").as_tool()


def test_authorize_guards_its_own_api_alone(client):
    assert client.post("/locked", json={"input": 2}).status_code == 401
    assert client.post("/locked?token=open sesame", json={"input": 2}).json()["output"] == 4


def test_callbacks_and_loggers_are_told(tmp_path):
    notes, values = tmp_path / "notes", tmp_path / "values"
    settings = {"callbacks": [apis.Notes(str(notes))], "loggers": apis.FileLogger(str(values))}
    with serving(apis.Square(), track_requests=True, **settings) as client:
        assert client.post("/predict", json={"input": 3}).json()["output"] == 9
        wait_until(lambda: values.exists() and values.read_text() == "asked=1\n", 60, "the logger")
    assert {"setup Square", "request 1"} <= set(notes.read_text().split("\n"))


def test_a_health_check_that_raises_is_not_ready():
    with serving(apis.Sick()) as client:
        client.post("/predict", json={"input": 3})
        answer = client.get("/health")
        assert (answer.status_code, answer.text) == (503, "not ready")


def test_health_is_asked_before_the_workers_are_ready(tmp_path):
    with serving(apis.Gated(tmp_path)) as client:
        answer = client.get("/health")
        assert (answer.status_code, answer.text) == (503, "not ready")
        assert (tmp_path / "asked").exists()
        (tmp_path / "open").touch()
        wait_until(lambda: client.get("/health").text == "ok", 60, "the worker to be ready")


def test_another_app_may_hold_the_server():
    server = ls.LitServer(apis.Square(), accelerator="cpu")
    outer = FastAPI(lifespan=server.lifespan)
    outer.mount("/model", server.app)
    with TestClient(outer) as client:
        assert client.post("/model/predict", json={"input": 3}).json()["output"] == 9


def test_keys_come_from_the_modules_variable(monkeypatch):
    monkeypatch.setattr("blixt.compat.litserve.server.LIT_SERVER_API_KEY", "abcd")
    with serving(apis.Square()) as client:
        assert client.post("/predict", json={"input": 3}).status_code == 401
        assert client.post("/predict", json={"input": 3}, headers={"X-API-Key": "abcd"}).status_code == 200
        for path in ("/", "/info", "/health"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers={"X-API-Key": "abcd"}).status_code in (200, 503)


def test_other_paths_no_docs_and_a_size_limit():
    settings = {
        "healthcheck_path": "/h",
        "info_path": "/i",
        "disable_openapi_url": True,
        "max_payload_size": 50,
    }
    with serving(apis.Square(), **settings) as client:
        assert client.get("/i").json()["server"]["max_payload_size"] == 50
        assert client.get("/openapi.json").status_code == 404
        assert client.get("/h").status_code in (200, 503)
        assert client.post("/predict", json={"input": "x" * 100}).status_code == 413


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: apis.Square(max_batch_size=0), "must be greater than 0"),
        (lambda: apis.Square(api_path="predict"), "api_path must start with '/'"),
        (lambda: apis.Square(enable_async=True), "must be an async generator or async function"),
        (lambda: ls.LitServer(apis.Square(stream=True)), "must generate values using `yield`"),
        (lambda: ls.LitServer(apis.Square(spec=ls.OpenAISpec())), "predict is not a generator"),
        (lambda: ls.LitServer(apis.Words(spec=ls.OpenAIEmbeddingSpec())), "yield in your predict"),
        (
            lambda: ls.LitServer(apis.Batched(max_batch_size=2, batch_timeout=5), timeout=2),
            "batch_timeout must",
        ),
        (lambda: ls.LitServer(apis.Square(), workers_per_device={"/x": 1}), "unknown api_path"),
        (lambda: ls.LitServer(apis.Square(), info_path="x"), "info_path must start with '/'"),
        (lambda: ls.LitServer(apis.Square(), model_metadata=int), "must be JSON"),
        (lambda: ls.LitServer(apis.Square(), accelerator="cuda", devices=["a"]), "devices must be"),
        (lambda: ls.LitServer(apis.Square()).run(port=80), "port must be a value"),
        (lambda: ls.LitServer(apis.Square()).run(host="1.2.3.4"), "host must be"),
    ],
)
def test_wrong_arguments_are_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_arguments_that_moved_still_work_with_a_warning():
    with pytest.warns(DeprecationWarning, match="max_batch_size"):
        server = ls.LitServer(apis.Square(), max_batch_size=4)
    assert server.lit_api.max_batch_size == 4


def test_a_batch_that_is_no_list_warns():
    api = apis.Square(max_batch_size=2)
    api.pre_setup()
    with pytest.warns(UserWarning, match="returned a dict instead of a list"):
        assert api.unbatch({"a": 1, "b": 2}) == ["a", "b"]


def test_the_docs_address_is_logged_unless_there_are_none_and_uvicorns_line_is_printed(monkeypatch, capfd):
    def run(host, port, *, on_listening, **settings):
        on_listening(f"http://{host}:{port}")

    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    add_log_handler(handler)
    for hidden in (False, True):
        server = ls.LitServer(apis.Square(), accelerator="cpu", disable_openapi_url=hidden)
        monkeypatch.setattr(server._server, "run", run)
        server.run(port=8123, generate_client_file=False, log_level="error" if hidden else "info")
    logging.getLogger("litserve").removeHandler(handler)
    assert lines == ["Swagger UI is available at http://0.0.0.0:8123/docs"]
    assert capfd.readouterr().err.splitlines() == [
        "INFO:     Application startup complete.",
        "INFO:     Uvicorn running on http://0.0.0.0:8123 (Press CTRL+C to quit)",
    ]


def test_dockerize_writes_an_image_that_runs_the_script_unchanged(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.py").write_text(SCRIPT)
    monkeypatch.setattr("sys.argv", ["litserve", "dockerize", "app.py", "--port", "8123"])
    with pytest.warns(UserWarning, match="Make sure to install the required packages in the Dockerfile"):
        command_line()
    assert "Dockerfile created successfully" in capsys.readouterr().out
    lines = (tmp_path / "Dockerfile").read_text().splitlines()
    assert lines[-1] == 'CMD ["python", "-m", "blixt.compat.litserve", "app.py"]'
    (tmp_path / "requirements.txt").write_text("")
    with pytest.raises(FileNotFoundError, match="must be in the current directory"):
        docker_builder.dockerize("none.py")
    assert docker_builder.color("hi", docker_builder.RED) == "\u001b[31mhi\u001b[0m"


@pytest.mark.anyio
async def test_helpers_for_async_streams():
    async def count(*numbers):
        for number in numbers:
            if number == 3:
                raise RuntimeError("three")
            yield number

    assert [pair async for pair in azip(count(1, 2), count(5))] == [(1, 5)]
    with pytest.raises(RuntimeError, match="three"):
        assert [pair async for pair in azip(count(3), count(5))]
    called = []
    assert [one async for one in call_after_stream(count(1, 3), called.append, "end")] == [1]
    assert called == ["end"]


def test_a_certificate_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("LIGHTNING_CERT_PEM", "Y2VydA==")
    assert add_ssl_context_from_env({}) == {}
    monkeypatch.setenv("LIGHTNING_KEY_FILE", "a2V5")
    files = add_ssl_context_from_env({})
    assert [path.read_text() for path in files.values()] == ["cert", "key"]
    for path in files.values():
        path.unlink()


SCRIPT = """
import litserve as ls
from litserve.specs.openai import ChatMessage


class Square(ls.LitAPI):
    def predict(self, x):
        return x["input"] ** 2


if __name__ == "__main__":
    server = ls.LitServer(Square())
    server._server.run(port=0)
"""


def test_an_unchanged_script_serves_through_the_door(tmp_path):
    script = tmp_path / "app.py"
    script.write_text(SCRIPT)
    words = [sys.executable, "-m", "blixt.compat.litserve", str(script)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    try:
        url = next(word for word in process.stdout.readline().split() if word.startswith("http"))
        assert httpx.post(f"{url}/predict", json={"input": 5}, timeout=60).json() == 25
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_the_door_says_where_it_is(tmp_path):
    words = [sys.executable, "-m", "blixt.compat.litserve"]
    path = subprocess.run([*words, "--path"], capture_output=True, text=True, check=True).stdout.strip()
    code = "import litserve; print(litserve.LitServer.__module__)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": path}
    )
    assert found.stdout.strip() == "litserve.server"
    assert subprocess.run([*words, "nope.py"], capture_output=True, cwd=tmp_path).returncode == 1
