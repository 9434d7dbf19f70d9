"""The pure shapes: a stream and a whole answer of the same pieces say the same; headers are read or not."""

import contextlib
import gzip
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blixt.serve import ChatRequest, CompletionRequest, HTTPError, Message, Piece, TokenLogprob
from blixt.serve.http.compress import accepts_gzip, compressed
from blixt.serve.http.meta import read_meta
from blixt.serve.http.sse import event
from blixt.serve.specs.openai import shape
from blixt.serve.specs.openai_answer import CompletionCall, split
from blixt.serve.specs.openai_responses import read_response
from blixt.serve.specs.openai_responses_wire import ResponseCall

QUICK = settings(max_examples=80, deadline=None)
texts = st.text(max_size=6)
calls = st.builds(
    lambda index, text: [{"index": index, "id": f"c{index}", "function": {"name": "f", "arguments": text}}],
    st.integers(0, 1),
    texts,
)
pieces = st.lists(
    st.builds(
        Piece,
        text=texts,
        tokens=st.integers(0, 3),
        reasoning=texts,
        refusal=st.just(""),
        tool_calls=st.none() | calls,
        logprobs=st.none() | st.builds(lambda text: [TokenLogprob(text, -1.0)], texts),
        prompt_tokens=st.none() | st.integers(0, 9),
    ),
    max_size=8,
)


def events(data):
    """The JSON values of server-sent events."""
    lines = [line[6:] for line in data.decode().split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def both(make, given_pieces):
    """Whole and streamed answers of two equal calls."""
    payloads = [msgspec.json.encode(piece) for piece in given_pieces]
    whole, stream = make(), make()
    data = stream.opening() + b"".join(stream.piece(0, payload) for payload in payloads) + stream.closing()
    return json.loads(whole.whole([payloads])), events(data)


@QUICK
@given(pieces)
def test_a_chats_deltas_add_up_to_its_message(given_pieces):
    request = ChatRequest(model="m", messages=[Message("user", "x")], logprobs=True)
    shaped = list(shape(iter(msgspec.convert(msgspec.to_builtins(given_pieces), list[Piece])), request))
    whole, chunks = both(lambda: CompletionCall(request), shaped)
    message = whole["choices"][0]["message"]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("content") or "" for delta in deltas) == (message["content"] or "")
    reasoning = "".join(delta.get("reasoning_content", "") for delta in deltas)
    assert reasoning == message.get("reasoning_content", "")
    arguments = {}
    for delta in deltas:
        for call in delta.get("tool_calls", ()):
            index = call["index"]
            arguments[index] = arguments.get(index, "") + call["function"]["arguments"]
    assert [arguments[index] for index in sorted(arguments)] == [
        call["function"]["arguments"] for call in message.get("tool_calls", ())
    ]
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    told = [chunk["choices"][0]["logprobs"] for chunk in chunks if chunk["choices"][0]["logprobs"]]
    streamed = [token["token"] for entry in told for token in entry["content"]]
    whole_logprobs = whole["choices"][0]["logprobs"]
    assert streamed == [token["token"] for token in (whole_logprobs or {"content": []})["content"]]


@QUICK
@given(pieces)
def test_a_responses_events_build_its_output(given_pieces):
    body = json.dumps({"model": "m", "input": "x"}).encode()
    whole, told = both(lambda: ResponseCall(*read_response(body)), given_pieces)
    final = told[-1]["response"]

    def content(item):
        return {key: value for key, value in item.items() if key not in ("id", "call_id")}

    assert [content(item) for item in final["output"]] == [content(item) for item in whole["output"]]
    assert final["usage"] == whole["usage"]
    assert [entry["sequence_number"] for entry in told] == list(range(len(told)))
    added = [entry["output_index"] for entry in told if entry["type"] == "response.output_item.added"]
    done = [entry["output_index"] for entry in told if entry["type"] == "response.output_item.done"]
    assert added == done == list(range(len(whole["output"])))
    for item in whole["output"]:
        assert item["status"] == "completed"


def test_an_empty_answer_is_empty_in_every_shape():
    request = ChatRequest(model="m", messages=[Message("user", "x")])
    whole, chunks = both(lambda: CompletionCall(request), list(shape(iter([]), request)))
    assert whole["choices"][0]["message"]["content"] == ""
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, "stop"]


def test_choices_of_prompts_are_split_in_order_with_seeds():
    request = CompletionRequest(model="m", prompt=["a", "b"], n=2, seed=5)
    assert [(one.prompt, one.seed, one.choice) for one in split(request, 4)] == [
        ("a", 5, 0),
        ("a", 6, 1),
        ("b", 5, 2),
        ("b", 6, 3),
    ]
    with pytest.raises(HTTPError):
        split(request, 3)


@QUICK
@given(st.binary(max_size=3000), st.sampled_from([None, b"gzip", b"br", b"gzip;q=0", b"*"]))
def test_a_compressed_body_is_the_body(body, accepted):
    sent, headers = compressed(body, [(b"content-type", b"application/json")], accepted, 1000)
    encoded = (b"content-encoding", b"gzip") in headers
    assert (gzip.decompress(sent) if encoded else sent) == body
    assert encoded == (len(body) > 1000 and accepted is not None and accepts_gzip(accepted))
    assert ((b"vary", b"accept-encoding") in headers) == (len(body) > 1000)


@pytest.mark.parametrize("kind", [b"image/png", b"audio/wav", b"application/zip"])
def test_what_is_packed_already_is_not_packed_again(kind):
    body, headers = compressed(b"x" * 5000, [(b"content-type", kind)], b"gzip", 1000)
    assert (body, headers) == (b"x" * 5000, [(b"content-type", kind)])


NAMES = st.sampled_from([b"x-priority", b"x-timeout-s", b"x-request-id"])


@QUICK
@given(st.lists(st.tuples(NAMES, st.binary(max_size=9) | st.integers().map(lambda n: b"%d" % n))))
def test_headers_are_read_or_refused_whatever_they_hold(headers):
    with contextlib.suppress(HTTPError):
        said = read_meta(headers)
        assert -10 <= said.priority <= 10
        assert said.timeout_s is None or said.timeout_s > 0


@QUICK
@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner), max_leaves=5))
def test_an_event_is_always_one_event(value):
    data = event(msgspec.json.encode(value), "name", 3)
    assert data.count(b"\n\n") == 1
    assert data.endswith(b"\n\n")
    assert data.startswith(b"id: 3\nevent: name\ndata: ")
