"""The official client's responses API."""

import openai
import pytest

TOOLS = [{"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}]


def respond(client, said, **kwargs):
    return client.responses.create(model="talker", input=said, **kwargs)


def test_a_response_has_text_and_usage(client):
    answer = respond(client, "hello big world", metadata={"k": "v"})
    assert (answer.output_text, answer.status) == ("hello big world ", "completed")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (3, 3)
    assert answer.metadata == {"k": "v"}


def test_instructions_and_items_become_a_conversation(client):
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "what is it like"}]},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "rain"},
        {"role": "user", "content": "tools said"},
    ]
    answer = respond(client, items, instructions="Be brief.")
    assert answer.output_text == (
        "system::Be brief. user::what is it like assistant:: tool:c1:rain user::tools said"
    )


def test_max_output_tokens_makes_it_incomplete(client):
    answer = respond(client, "a b c d", max_output_tokens=2)
    assert (answer.output_text, answer.status) == ("a b ", "incomplete")
    assert answer.incomplete_details.reason == "max_output_tokens"


def test_function_calls_are_items(client):
    message, first, second = respond(client, "tool", tools=TOOLS).output
    assert (message.type, message.content[0].text) == ("message", "Calling. ")
    assert (first.type, first.name, first.arguments) == ("function_call", "weather", '{"city": "Oslo"}')
    assert (second.call_id, second.arguments) == ("call_1", '{"city": "Rome"}')


def test_thinking_is_an_item(client):
    thought, message = respond(client, "think").output
    assert (thought.type, thought.content[0].text) == ("reasoning", "Let me see.")
    assert message.content[0].text == "42"


def test_a_text_format_becomes_a_response_format(client):
    wanted = {"format": {"type": "json_schema", "name": "person", "schema": {"type": "object"}}}
    assert respond(client, "format", text=wanted).output_text == "person"


@pytest.mark.parametrize("text", ["hello big world", "tool", "think", "refuse", "logprobs"])
def test_a_stream_builds_the_same_response(client, text):
    whole = respond(client, text, tools=TOOLS)
    with client.responses.stream(model="talker", input=text, tools=TOOLS) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert events[0].type == "response.created"
    assert [item.type for item in final.output] == [item.type for item in whole.output]
    assert final.output_text == whole.output_text
    assert final.usage == whole.usage


def test_events_are_numbered_from_zero(client):
    events = list(respond(client, "a b", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == "a b "
    assert events[-1].type == "response.completed"


def test_an_error_in_the_middle_fails_the_response(client):
    *_, error, failed = respond(client, "break", stream=True)
    assert (error.type, error.message) == ("error", "Internal Server Error")
    assert (failed.type, failed.response.status) == ("response.failed", "failed")
    assert failed.response.output[0].content[0].text == "one "


def test_an_error_before_the_first_piece_is_an_http_error(client):
    with pytest.raises(openai.InternalServerError):
        respond(client, "break")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"previous_response_id": "resp_1"}, "stores answers"),
        ({"background": True}, "stores answers"),
        ({"tools": [{"type": "web_search"}]}, "runs no tools of its own"),
        ({"input": []}, "'input' is empty"),
        ({"input": [{"type": "computer_call"}]}, "'input.0.type' is 'computer_call'"),
        ({"input": [{"role": "user", "content": [{"type": "text2"}]}]}, "'input.0.content.0.type' must"),
    ],
)
def test_what_the_server_cannot_do_is_said(client, change, message):
    with pytest.raises(openai.BadRequestError, match=message):
        client.responses.create(**{"model": "talker", "input": "x", **change})
