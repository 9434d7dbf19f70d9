"""What the official client finds beyond plain chat: choices, tools, log-probabilities, thinking, models."""

import base64
import json

import httpx
import openai
import pydantic
import pytest

from blixt.serve.testing import wait_until


def ask(client, text, model="talker", **kwargs):
    messages = [{"role": "user", "content": text}]
    return client.chat.completions.create(model=model, messages=messages, **kwargs)


WEATHER = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


def test_several_models_share_one_server_and_are_chosen_by_name(client):
    assert [model.id for model in client.models.list()] == ["talker", "shouter", "lengths"]
    assert ask(client, "hello you").choices[0].message.content == "hello you "
    assert ask(client, "hello you", "shouter").choices[0].message.content == "HELLO YOU "


def test_an_unknown_model_is_404_and_the_known_ones_are_told(client):
    with pytest.raises(openai.NotFoundError, match="'talker', 'shouter'") as error:
        ask(client, "x", "gpt-9")
    assert error.value.code == "model_not_found"


def test_the_specs_max_tokens_bounds_an_async_model_too(client):
    choice = ask(client, "a b c d e", "shouter").choices[0]
    assert (choice.message.content, choice.finish_reason) == ("A B C ", "length")


@pytest.mark.parametrize("stream", [False, True])
def test_n_choices_are_answered_side_by_side_with_seeds_of_their_own(client, stream):
    answer = ask(client, "choice", n=3, seed=10, stream=stream)
    texts = {0: "", 1: "", 2: ""}
    if stream:
        for chunk in answer:
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
    else:
        texts = {choice.index: choice.message.content for choice in answer.choices}
    assert texts == {i: f"choice {i} seed {10 + i} " for i in range(3)} or texts == {
        i: f"choice {i} seed {10 + i}" for i in range(3)
    }


def test_a_prompt_with_several_choices_counts_once_in_usage(client):
    usage = ask(client, "one two", n=2).usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (2, 4)


def test_lists_of_prompts_are_answered_in_order(client):
    answer = client.completions.create(model="talker", prompt=["a b", "c"], n=2, echo=True)
    assert [choice.text for choice in answer.choices] == ["a ba b ", "a ba b ", "cc ", "cc "]
    assert answer.usage.prompt_tokens == 3


def test_chat_logprobs_come_when_asked_for(client):
    content = ask(client, "logprobs", logprobs=True, top_logprobs=1).choices[0].logprobs.content
    assert [(token.token, token.bytes, len(token.top_logprobs)) for token in content] == [
        ("Hi", [72, 105], 1),
        (" you", [32, 121, 111, 117], 1),
    ]
    assert ask(client, "logprobs").choices[0].logprobs is None
    chunks = list(ask(client, "logprobs", logprobs=True, top_logprobs=2, stream=True))
    told = [chunk.choices[0].logprobs for chunk in chunks if chunk.choices[0].logprobs]
    assert [entry.content[0].top_logprobs[1].token for entry in told] == ["Yo", "Yo"]


def test_completion_logprobs_are_columns_with_offsets(client):
    logprobs = client.completions.create(model="talker", prompt="logprobs", logprobs=2).choices[0].logprobs
    assert (logprobs.tokens, logprobs.text_offset) == (["Hi", " you"], [0, 2])
    assert logprobs.top_logprobs[0] == {"Hi": -0.1, "Yo": -2.0}
    chunks = list(client.completions.create(model="talker", prompt="logprobs", logprobs=1, stream=True))
    assert [c.choices[0].logprobs.text_offset for c in chunks if c.choices[0].logprobs] == [[0], [2]]


@pytest.mark.parametrize("stream", [False, True])
def test_parallel_tool_calls_arrive_whole_or_in_deltas(client, stream):
    answer = ask(client, "tool", tools=WEATHER, stream=stream)
    calls: dict[int, list[str]] = {}
    if stream:
        for chunk in answer:
            for call in chunk.choices[0].delta.tool_calls or []:
                entry = calls.setdefault(call.index, ["", "", ""])
                entry[0] += call.id or ""
                entry[1] += call.function.name or ""
                entry[2] += call.function.arguments or ""
        assert chunk.choices[0].finish_reason == "tool_calls"
    else:
        choice = answer.choices[0]
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", "Calling. ")
        for index, call in enumerate(choice.message.tool_calls):
            calls[index] = [call.id, call.function.name, call.function.arguments]
    assert calls[0] == ["call_0", "weather", '{"city": "Oslo"}']
    assert calls[1] == ["call_1", "weather", '{"city": "Rome"}']


def test_a_conversation_with_tool_answers_reaches_the_model(client):
    call = {"id": "c9", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    messages = [
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c9", "content": "sun"},
        {"role": "user", "content": "tools said"},
    ]
    answer = client.chat.completions.create(model="talker", messages=messages, tools=WEATHER)
    assert answer.choices[0].message.content == "assistant:: tool:c9:sun user::tools said"


def test_thinking_is_kept_apart_and_counted(client):
    answer = ask(client, "think", reasoning_effort="low")
    message = answer.choices[0].message
    assert (message.content, message.reasoning_content) == ("42", "Let me see.")
    assert answer.usage.completion_tokens_details.reasoning_tokens == 2
    assert answer.usage.prompt_tokens_details.cached_tokens == 1
    deltas = [chunk.choices[0].delta for chunk in ask(client, "think", stream=True)]
    assert "".join(getattr(delta, "reasoning_content", "") or "" for delta in deltas) == "Let me see."


def test_a_refusal_has_a_field_of_its_own(client):
    message = ask(client, "refuse").choices[0].message
    assert (message.content, message.refusal) == (None, "I will not.")


def test_a_response_format_is_passed_on(client):
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "schema": {"type": "object"}}}
    assert ask(client, "format", response_format=wanted).choices[0].message.content == "person"


class Person(pydantic.BaseModel):
    name: str
    age: int


class weather(pydantic.BaseModel):  # the tool's name is the class's
    city: str


ADA = Person(name="Ada", age=36)


def test_structured_answers_are_parsed_by_the_clients_own_helpers(client):
    messages = [{"role": "user", "content": "person"}]
    chats = client.chat.completions
    assert (
        chats.parse(model="talker", messages=messages, response_format=Person).choices[0].message.parsed
        == ADA
    )
    with chats.stream(
        model="talker", messages=messages, response_format=Person, stream_options={"include_usage": True}
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert (kinds.count("content.delta"), kinds.count("content.done")) == (4, 1)
    assert (final.choices[0].message.parsed, final.usage.completion_tokens) == (ADA, 3)
    response = client.responses.parse(model="talker", input="person", text_format=Person)
    assert response.output_parsed == ADA


def test_tool_calls_are_parsed_by_the_clients_own_helpers(client):
    tools = [openai.pydantic_function_tool(weather)]
    messages = [{"role": "user", "content": "tool"}]
    whole = client.chat.completions.parse(model="talker", messages=messages, tools=tools)
    with client.chat.completions.stream(model="talker", messages=messages, tools=tools) as stream:
        streamed = stream.get_final_completion()
    for answer in (whole, streamed):
        calls = answer.choices[0].message.tool_calls
        assert [call.function.parsed_arguments.city for call in calls] == ["Oslo", "Rome"]


def test_pictures_and_sounds_reach_the_model(client):
    data = base64.b64encode(b"12345").decode()
    parts = [
        {"type": "text", "text": "parts"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
        {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}},
    ]
    answer = client.chat.completions.create(model="talker", messages=[{"role": "user", "content": parts}])
    assert answer.choices[0].message.content == "[5] [('wav', 5)]"


def test_usage_of_a_stream_of_choices_comes_last(client):
    options = {"include_usage": True}
    chunks = list(ask(client, "a b", n=2, stream=True, stream_options=options))
    assert (chunks[-1].choices, chunks[-1].usage.total_tokens) == ([], 6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 17}, "'n' must be at most 16"),
        ({"top_logprobs": 3}, "'top_logprobs' needs logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "'top_logprobs' must be from 0 to 20"),
        ({"tools": [{"type": "function"}]}, "'tools.0.function.name' is missing"),
        ({"response_format": {"type": "xml"}}, "'response_format.type' must be one of"),
        ({"messages": [{"role": "king", "content": "hi"}]}, "'messages.0.role' is 'king'"),
        ({"messages": [{"role": "tool", "content": "hi"}]}, "'messages.0.tool_call_id' is missing"),
        (
            {"messages": [{"role": "user", "content": [{"type": "video"}]}]},
            "'messages.0.content.0.type' must",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "'messages.0.content.0.image_url.url' is missing",
        ),
        ({"presence_penalty": 3}, "'presence_penalty' must be from -2 to 2"),
    ],
)
def test_a_wrong_parameter_is_named(openai_service, change, message):
    body = {"model": "talker", "messages": [{"role": "user", "content": "hi"}], **change}
    answer = httpx.post(f"{openai_service.url}/v1/chat/completions", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
    assert message in error["message"]


@pytest.mark.parametrize("path", ["chat/completions", "completions", "responses", "embeddings"])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"{}", b"\xff\xfe", b'{"model": 7}'])
def test_a_body_that_is_no_request_is_400(openai_service, path, body):
    answer = httpx.post(f"{openai_service.url}/v1/{path}", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


def test_the_worker_forgets_answers_and_the_front_counts_tokens(openai_service, client):
    for _ in range(5):
        ask(client, "a b c")
    wait_until(lambda: openai_service.metric("blixt_serve_in_flight") == 0, 60, "nothing in flight")


@pytest.mark.anyio
async def test_the_async_client_streams(openai_service):
    async with openai.AsyncOpenAI(base_url=f"{openai_service.url}/v1", api_key="none") as client:
        stream = await client.chat.completions.create(
            model="shouter", messages=[{"role": "user", "content": "a b"}], stream=True
        )
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(pieces) == "A B "


def test_embeddings_keep_the_order_of_their_inputs(client):
    answer = client.embeddings.create(model="lengths", input=["a", "bbb", "cc"])
    assert [entry.embedding[0] for entry in answer.data] == [1.0, 3.0, 2.0]
    assert [entry.index for entry in answer.data] == [0, 1, 2]
    assert answer.usage.total_tokens == 6


def test_inputs_of_one_request_share_a_batch(client):
    answer = client.embeddings.create(model="lengths", input=["x"] * 8)
    assert max(entry.embedding[1] for entry in answer.data) > 1


def test_embeddings_as_floats_and_as_base64_are_the_same(client):
    floats = client.embeddings.create(model="lengths", input="abc", encoding_format="float").data[0].embedding
    packed = (
        client.embeddings.create(model="lengths", input="abc", encoding_format="base64").data[0].embedding
    )
    assert floats[0] == 3.0
    assert len(base64.b64decode(packed)) == 4 * len(floats)


def test_token_ids_are_inputs_too(client):
    assert client.embeddings.create(model="lengths", input=[5, 6, 7]).data[0].embedding[0] == 3.0
    many = client.embeddings.create(model="lengths", input=[[1], [2, 3]])
    assert [entry.embedding[0] for entry in many.data] == [1.0, 2.0]


@pytest.mark.parametrize("wrong", [[], "", ["a", ""], ["a", 1]])
def test_inputs_that_are_none_are_400(openai_service, wrong):
    body = {"model": "lengths", "input": wrong}
    assert httpx.post(f"{openai_service.url}/v1/embeddings", json=body).status_code == 400


def test_an_error_of_the_model_is_openais_error(client):
    with pytest.raises(openai.BadRequestError, match="spoils"):
        client.embeddings.create(model="lengths", input=["fail"])


def test_a_models_failure_tells_nothing(client):
    with pytest.raises(openai.InternalServerError) as error:
        ask(client, "break")
    assert "hunter2" not in json.dumps(error.value.body)
