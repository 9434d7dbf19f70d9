"""The official client against a server that speaks OpenAI."""

import httpx
import openai
import pytest


@pytest.fixture(scope="module")
def client(service):
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def chat(client, text, **kwargs):
    return client.chat.completions.create(
        model="parrot", messages=[{"role": "user", "content": text}], **kwargs
    )


def test_models_are_listed_and_shown(client):
    assert [model.id for model in client.models.list()] == ["parrot"]
    assert client.models.retrieve("parrot").owned_by == "blixt"


def test_a_chat_completion_has_text_reason_and_usage(client):
    answer = chat(client, "hello big world")
    assert answer.choices[0].message.content == "hello big world "
    assert answer.choices[0].finish_reason == "stop"
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (3, 3, 6)
    assert answer.object == "chat.completion"


def test_a_streamed_chat_gives_the_same_text_in_pieces_and_one_finish_reason(client):
    chunks = list(chat(client, "hello big world", stream=True))
    assert [c.choices[0].delta.content for c in chunks if c.choices[0].delta.content] == [
        "hello ",
        "big ",
        "world ",
    ]
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["stop"]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len({c.id for c in chunks}) == 1


def test_usage_of_a_stream_comes_when_asked_for_in_a_last_chunk(client):
    chunks = list(chat(client, "a b", stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == 4
    assert all(chunk.usage is None for chunk in chunks[:-1])


@pytest.mark.parametrize("stream", [False, True])
def test_max_tokens_cuts_and_says_length(client, stream):
    text, reason = collect(chat(client, "a b c d", max_tokens=2, stream=stream), stream)
    assert (text, reason) == ("a b ", "length")


def test_max_completion_tokens_is_the_newer_name(client):
    assert chat(client, "a b c d", max_completion_tokens=3).choices[0].message.content == "a b c "


@pytest.mark.parametrize("stream", [False, True])
def test_stop_strings_cut_even_across_pieces(client, stream):
    text, reason = collect(chat(client, "one two three", stop=["o thr", "never"], stream=stream), stream)
    assert (text, reason) == ("one tw", "stop")


def test_sampling_parameters_reach_predict(client):
    answer = chat(client, "params", temperature=0.5, top_p=0.9, seed=7, stop="x", max_tokens=9)
    assert answer.choices[0].message.content == "0.5 0.9 7 1 9"


def test_content_parts_are_read_as_text(client):
    parts = [{"type": "text", "text": "from "}, {"type": "text", "text": "parts"}]
    answer = client.chat.completions.create(model="parrot", messages=[{"role": "user", "content": parts}])
    assert answer.choices[0].message.content == "from parts "


def test_tool_calls_are_put_together_and_are_the_reason(client):
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    choice = chat(client, "call", tools=tools).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert (choice.message.content, choice.message.tool_calls[0].function.arguments) == (None, '{"a": 1}')


def test_completions_whole_and_streamed(client):
    answer = client.completions.create(model="parrot", prompt="x y", max_tokens=1)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("x ", "length")
    chunks = client.completions.create(model="parrot", prompt=["x y"], stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == "x y "


def test_another_model_is_404(client):
    with pytest.raises(openai.NotFoundError) as error:
        client.completions.create(model="gpt-9", prompt="x")
    assert error.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-9")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 0}, "'n' must be above 0"),
        ({"n": 99}, "'n' must be at most 16"),
        ({"temperature": 3}, "'temperature' must be"),
        ({"top_p": 0}, "'top_p' must be"),
        ({"max_tokens": 0}, "'max_tokens' must be"),
        ({"messages": []}, "'messages' is empty"),
        ({"messages": "hi"}, "messages: Expected `array`"),
        ({"messages": [{"content": "hi"}]}, "messages.0.role: Object missing required field `role`"),
    ],
)
def test_a_wrong_request_is_400_in_openais_shape(service, change, message):
    body = {"model": "parrot", "messages": [{"role": "user", "content": "hi"}], **change}
    answer = httpx.post(f"{service.url}/v1/chat/completions", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
    assert message in error["message"]


def test_other_errors_have_openais_shape_too(service):
    assert httpx.post(f"{service.url}/v1/chat/completions", content=b"{").json()["error"]["message"]
    assert httpx.post(f"{service.url}/v1/embeddings", json={}).json()["error"]["type"] == "not_found_error"


@pytest.mark.parametrize("stream", [False, True])
def test_an_http_error_before_the_first_piece_is_a_plain_error(client, stream):
    with pytest.raises(openai.BadRequestError, match="The prompt is too long"):
        chat(client, "too long", stream=stream)


def test_an_error_in_the_middle_of_a_stream_reaches_the_client(client):
    stream = chat(client, "break", stream=True)
    with pytest.raises(openai.APIError, match="Internal Server Error"):
        list(stream)


def collect(answer, stream):
    if not stream:
        return answer.choices[0].message.content, answer.choices[0].finish_reason
    chunks = list(answer)
    return "".join(c.choices[0].delta.content or "" for c in chunks), chunks[-1].choices[0].finish_reason
