"""Whatever a client sends is answered, or refused with a 400 in a sentence: never an error of the server."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blixt.llm import ChatAPI
from blixt.llm.server.requests import (
    CHAT_NAMES,
    COMPLETION_NAMES,
    ChatBody,
    read_chat,
    read_completion,
    read_embeddings,
    read_responses,
)
from blixt.serve import HTTPError

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 70)
    | st.floats(-3, 3)
    | st.sampled_from(["", "x", "auto", "1"])
)
KEYS = st.sampled_from(["type", "name", "1", "x"])
VALUES = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(KEYS, v, max_size=3), max_leaves=6
)
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
FORMATS = [
    {"type": "text"},
    {"type": "json_object"},
    {"type": "regex", "regex": "a+"},
    {"type": "regex", "regex": "("},
    {"type": "choice", "choice": ["a"]},
    {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
]
LIKELY: dict[str, st.SearchStrategy[Any]] = {
    "response_format": st.sampled_from(FORMATS),
    "tools": st.just([FUNCTION]),
    "tool_choice": st.sampled_from(["auto", "none", "required", FUNCTION]),
    "temperature": st.floats(0, 2),
    "max_tokens": st.integers(1, 4),
    "stop": st.sampled_from(["a", ["b", "c"]]),
}


def bodies(names: frozenset[str], base: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    keys = st.lists(st.sampled_from(sorted(names - base.keys() - {"n", "model"})), max_size=4, unique=True)
    drawn = keys.flatmap(lambda ks: st.fixed_dictionaries({k: LIKELY.get(k, VALUES) | VALUES for k in ks}))
    return drawn.map(lambda more: {"model": "source", "max_tokens": 2, **base, **more})


CHATS = bodies(CHAT_NAMES, {"messages": [{"role": "user", "content": "import json"}]})
COMPLETIONS = bodies(COMPLETION_NAMES, {"prompt": "import json"})


@pytest.fixture(scope="module")
def api(checkpoint: Path) -> ChatAPI:
    """The served model's worker, in this process."""
    api = ChatAPI(checkpoint, "source")
    api.load("cpu")
    return api


def answered(api: ChatAPI, body: dict[str, Any], read: Any) -> None:
    """Run a request to its end; a refusal is a 400 with a sentence."""
    refusal: HTTPError | None = None
    try:
        api.add_request("1", read(json.dumps(body).encode()))
    except HTTPError as error:
        refusal = error
    assert refusal is None or (refusal.status == 400 and refusal.detail)
    reasons: list[str] = []
    while api.has_active_requests():
        for output in api.step(None):
            assert output.error is None, output.error
            reasons += [output.output.finish_reason] if output.output and output.output.finish_reason else []
    assert len(reasons) == (refusal is None)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=CHATS)
def test_any_chat_is_answered_or_refused(api: ChatAPI, body: dict[str, Any]) -> None:
    answered(api, body, read_chat)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=COMPLETIONS)
def test_any_completion_is_answered_or_refused(api: ChatAPI, body: dict[str, Any]) -> None:
    answered(api, body, read_completion)


@pytest.mark.parametrize("read", [read_chat, read_completion, read_responses, read_embeddings])
@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model": 1}', b"\xff", b'{"model": "x"}'])
def test_a_body_that_is_no_request_is_a_bad_request(read: Any, body: bytes) -> None:
    with pytest.raises(HTTPError) as caught:
        read(body)
    assert caught.value.status == 400


def test_a_response_is_a_chat_to_the_worker() -> None:
    body = {
        "model": "m",
        "input": "Hi",
        "max_output_tokens": 5,
        "reasoning": {"effort": "low"},
        "store": True,
    }
    _, request = read_responses(json.dumps(body).encode())
    assert isinstance(request, ChatBody)
    assert (request.max_tokens, request.reasoning_effort) == (5, "low")
    with pytest.raises(HTTPError, match="400"):
        read_responses(json.dumps({**body, "prompt": {"id": "x"}}).encode())


@pytest.mark.parametrize("end", ["left", "stopped", "finished"])
def test_however_a_request_ends_its_blocks_are_free(api: ChatAPI, end: str) -> None:
    body = {"model": "source", "prompt": "import json", "max_tokens": 12, "temperature": 0}
    if end == "stopped":
        body["stop"] = "j"
    api.add_request("1", read_completion(json.dumps(body).encode()))
    if end == "left":
        api.step(None)
        assert api.engine.stats().blocks_used > 0
        api.remove_request("1")
    while api.has_active_requests():
        api.step(None)
    assert (api.engine.stats().running, api.engine.stats().blocks_used) == (0, 0)
    assert api.has_capacity()
