"""Who may use a server: keys, tokens, other origins, proxies; and how it is asked to stop."""

import logging
import os

import httpx
import openai
import pytest
from mcp.client import Client
from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from blixt.serve import ConfigError, OpenAISpec, Server
from blixt.serve.http.auth import LOOK_EVERY_S, KeyRing
from blixt.serve.http.web import CORS, Web
from blixt.serve.testing import running, wait_until

from .apis import Big, Chat, Guarded, GuardedTalker
from .stamps import Stamp, token_is_good, token_is_good_async

BEARER = {"authorization": "Bearer ada-key"}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory):
    """A server with named keys, a file of keys, a user's check of tokens, and a way to stop it."""
    file = tmp_path_factory.mktemp("keys") / "keys.txt"
    file.write_text("# of the team\nbo: bo-key\n\nplain-key\n")
    web = Web(
        api_keys_file=str(file),
        authenticate=token_is_good_async,
        mcp=True,
        shutdown=True,
        shutdown_key="stop it",
        info_path="/about",
        health_path="/alive",
    )
    server = Server([Big(), Chat(), Guarded()], accelerator="cpu", api_key={"ada": "ada-key"}, web=web)
    with running(server) as service:
        yield service, file


def ask(service, headers=None, path="/big", **kwargs):
    return httpx.post(f"{service.url}{path}", json=1, headers=headers, timeout=60, **kwargs)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (None, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Basic ada-key"}, 401),
        ({"x-api-key": ""}, 401),
        (BEARER, 200),
        ({"authorization": "bearer ada-key"}, 200),
        ({"x-api-key": "bo-key"}, 200),
        ({"x-api-key": "plain-key"}, 200),
        ({"authorization": "Bearer good token"}, 200),
        ({"authorization": "Bearer broken"}, 401),
    ],
)
def test_a_key_of_the_ring_or_an_accepted_token_opens(keyed, headers, status):
    answer = ask(keyed[0], headers)
    assert answer.status_code == status
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json() == {"detail": "The API key is missing or wrong."}


@pytest.mark.parametrize("path", ["/big", "/about"])
def test_a_check_of_tokens_may_refuse_in_its_own_words(keyed, path):
    method = httpx.post if path == "/big" else httpx.get
    answer = method(f"{keyed[0].url}{path}", headers={"authorization": "Bearer banned"})
    assert (answer.status_code, answer.json(), answer.headers["x-until"]) == (
        403,
        {"detail": "banned"},
        "tomorrow",
    )


def test_probes_and_docs_are_open_and_the_rest_is_not(keyed):
    service = keyed[0]
    assert [httpx.get(f"{service.url}{path}").status_code for path in ("/alive", "/ready", "/docs")] == [
        200
    ] * 3
    assert [httpx.get(f"{service.url}{path}").status_code for path in ("/about", "/metrics", "/none")] == [
        401
    ] * 3
    assert httpx.get(f"{service.url}/about", headers=BEARER).json()["apis"]


def test_keys_are_rotated_without_a_restart(keyed):
    service, file = keyed
    file.write_text("bo: bo-key-2\n")
    wait_until(lambda: ask(service, {"x-api-key": "bo-key-2"}).status_code == 200, 60, "the new key")
    assert ask(service, {"x-api-key": "bo-key"}).status_code == 401
    file.unlink()  # keys stay in force while the file is gone
    wait_until(lambda: ask(service, {"x-api-key": "bo-key-2"}).status_code == 200, 60, "the last keys")


def test_a_websocket_needs_the_key(keyed):
    url = f"{keyed[0].url.replace('http', 'ws')}/chat"
    with pytest.raises(InvalidStatus) as refused:
        connect(url, open_timeout=60)
    assert refused.value.response.status_code == 401
    with connect(url, open_timeout=60, additional_headers=BEARER) as connection:
        connection.send("hi")
        assert connection.recv(timeout=60) == "you said hi"


@pytest.mark.anyio
async def test_tools_need_the_key_too(keyed):
    url = f"{keyed[0].url}/mcp/"
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    accepted = {"accept": "application/json, text/event-stream"}
    assert httpx.post(url, json=call, headers=accepted).status_code == 401
    async with (
        create_mcp_http_client(headers=BEARER) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        assert (await client.call_tool("Big", {"input": 3})).content[0].text == "aaa"


def test_an_apis_own_authorize_stands_in_place_of_the_keys(keyed):
    assert ask(keyed[0], {"authorization": "Bearer open sesame"}, "/guarded").status_code == 200
    assert ask(keyed[0], BEARER, "/guarded").status_code == 403


def test_a_model_with_an_authorize_of_its_own_is_guarded_on_all_its_routes():
    server = Server(GuardedTalker(spec=OpenAISpec("talker")), accelerator="cpu")
    with running(server) as service:
        base_url = f"{service.url}/v1"
        with openai.OpenAI(base_url=base_url, api_key="open rice", max_retries=0) as client:
            with pytest.raises(openai.PermissionDeniedError, match="wrong words") as refused:
                client.completions.create(model="talker", prompt="a")
            assert refused.value.response.headers["x-hint"] == "seeds"
            with pytest.raises(openai.PermissionDeniedError):
                client.models.retrieve("talker")
        with openai.OpenAI(base_url=base_url, api_key="open sesame", max_retries=0) as client:
            assert client.completions.create(model="talker", prompt="a").choices[0].text == "a "
            assert client.models.retrieve("talker").id == "talker"


def test_the_schema_tells_of_the_keys(keyed):
    schema = httpx.get(f"{keyed[0].url}/openapi.json").json()
    assert set(schema["components"]["securitySchemes"]) == {"ApiKey", "Bearer", "HTTPBearer"}
    assert schema["paths"]["/big"]["post"]["security"] == [{"ApiKey": []}, {"Bearer": []}]
    assert schema["paths"]["/guarded"]["post"]["security"] == [{"HTTPBearer": []}]
    assert "401" in schema["paths"]["/big"]["post"]["responses"]


def test_the_shutdown_endpoint_wants_its_own_key_and_then_stops(tmp_path):
    web = Web(shutdown=True, shutdown_key="stop it")
    with running(Server(Big(), accelerator="cpu", api_key="k", web=web)) as service:
        url = f"{service.url}/shutdown"
        wrong = httpx.post(url, headers={"authorization": "Bearer k", "x-api-key": "k"})
        assert wrong.status_code == 401
        right = httpx.post(url, headers={"authorization": "Bearer stop it", "x-api-key": "k"})
        assert right.text == "stopping"
        assert service.wait(60) == 0


def test_without_the_option_there_is_no_shutdown_endpoint(keyed, web_service):
    assert httpx.post(f"{web_service.url}/shutdown").status_code == 404


@pytest.fixture(scope="module")
def proxied():
    """A server behind a proxy that strips a prefix, with other origins and middleware."""
    web = Web(
        cors=CORS(origins=["https://app.example.com"]),
        middlewares=[Stamp, (Stamp, {"text": "second"})],
        trusted_proxies=["127.0.0.1"],
        root_path="/d/ts/name",
        authenticate=token_is_good,
    )
    with running(Server([Big(), Chat()], accelerator="cpu", web=web)) as service:
        yield service


GOOD = {"authorization": "Bearer good token"}


def test_a_sync_check_of_tokens_alone_closes_the_server(proxied):
    assert ask(proxied).status_code == 401
    assert ask(proxied, GOOD).json() == "a"


def test_middlewares_see_every_request_in_their_order(proxied):
    for answer in (ask(proxied, GOOD), ask(proxied), httpx.get(f"{proxied.url}/health")):
        assert answer.headers.get_list("x-stamp") == ["second", "plain"]


def test_a_trusted_proxy_tells_who_the_client_is(proxied):
    answer = ask(proxied, {**GOOD, "x-forwarded-for": "203.0.113.7"})
    assert answer.headers.get_list("x-client") == ["203.0.113.7"] * 2


def test_an_unknown_proxy_is_not_believed(web_service, proxied):
    plain = ask(proxied, GOOD)
    assert plain.headers.get_list("x-client") == ["127.0.0.1"] * 2


def test_another_origin_may_ask_if_it_is_named(proxied):
    headers = {
        "origin": "https://app.example.com",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
    }
    preflight = httpx.options(f"{proxied.url}/big", headers=headers)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "https://app.example.com"
    answer = ask(proxied, {**GOOD, "origin": "https://app.example.com"})
    assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
    other = ask(proxied, {**GOOD, "origin": "https://evil.example.com"})
    assert "access-control-allow-origin" not in other.headers


def test_a_prefix_is_understood_stripped_or_not(proxied):
    assert ask(proxied, GOOD, "/d/ts/name/big").json() == "a"
    schema = httpx.get(f"{proxied.url}/openapi.json").json()
    assert schema["servers"] == [{"url": "/d/ts/name"}]
    assert "/big" in schema["paths"]


def test_websockets_pass_the_users_middleware(proxied):
    url = f"{proxied.url.replace('http', 'ws')}/chat"
    with connect(url, open_timeout=60, additional_headers=GOOD) as connection:
        connection.send("hi")
        assert connection.recv(timeout=60) == "you said hi"


@pytest.mark.parametrize(
    ("keys", "sentence"), [("", "api_key is empty"), ({"ada": ""}, "api_key is empty (ada)")]
)
def test_an_empty_key_is_refused(keys, sentence):
    with pytest.raises(ConfigError) as error:
        KeyRing(keys)
    assert sentence in str(error.value)


def test_a_file_of_keys_that_is_missing_or_empty_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        KeyRing(None, tmp_path / "missing")
    (tmp_path / "empty").write_text("# nothing\n")
    with pytest.raises(ConfigError, match="holds no API key"):
        KeyRing(None, tmp_path / "empty")


def test_a_file_that_breaks_keeps_the_last_keys_and_says_so(tmp_path, caplog, monkeypatch):
    file = tmp_path / "keys"
    file.write_text("one: 1")
    ring = KeyRing(None, file)
    file.write_text("# all gone")
    os.utime(file, (1, 1))
    now = [1e9]
    monkeypatch.setattr("blixt.serve.http.auth.time.monotonic", lambda: now[0])
    with caplog.at_level(logging.WARNING):
        assert ring.name_of([(b"x-api-key", b"1")]) == "one"
    assert "keeping the last API keys" in caplog.text
    file.write_text("two: 22")
    now[0] += 2 * LOOK_EVERY_S
    assert ring.name_of([(b"authorization", b"Bearer 22")]) == "two"
    assert not ring.authorized([(b"x-api-key", b"1")])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Web(health_path="alive"), "health_path='alive' does not begin with '/'"),
        (lambda: Web(root_path="/x/"), "root_path='/x/' must begin"),
        (lambda: Web(keep_alive_s=0), "keep_alive_s above 0"),
        (lambda: Web(middlewares=["Stamp"]), "middlewares: 'Stamp' is neither"),
    ],
)
def test_a_setting_that_cannot_be_is_one_sentence(make, sentence):
    with pytest.raises(ConfigError) as error:
        make()
    assert sentence in str(error.value)


def test_a_shutdown_key_is_made_or_taken_from_the_environment(monkeypatch):
    assert len(Web(shutdown=True).shutdown_key) > 20
    monkeypatch.setenv("BLIXT_SERVE_SHUTDOWN_KEY", "from outside")
    assert Web(shutdown=True).shutdown_key == "from outside"
