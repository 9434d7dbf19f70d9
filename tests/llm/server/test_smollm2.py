"""A real chat model behind OpenAI's own client."""

import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
from tests.llm.smollm2 import smollm2_dir

from blixt.llm import LLM
from blixt.serve.testing import RunningServer, wait_until

HI = [{"role": "user", "content": "Say hi in French."}]
COUNT = [{"role": "user", "content": "Count to 1000."}]
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 6}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def asked(chatter: openai.OpenAI, **given: object):
    return chatter.chat.completions.create(
        **{"model": "smollm2", "messages": HI, "max_tokens": 16, "temperature": 0, **given}
    )


@pytest.fixture(scope="module")
def here() -> LLM:
    return LLM.load(smollm2_dir(), context=1024)


def test_the_transcript_equals_the_model_in_process_streamed_and_whole(
    chatter: openai.OpenAI, here: LLM
) -> None:
    wanted = here.chat(HI, max_tokens=16, temperature=0)
    whole = asked(chatter)
    chunks = list(asked(chatter, stream=True, stream_options={"include_usage": True}))
    response = chatter.responses.create(
        model="smollm2", input="Say hi in French.", max_output_tokens=16, temperature=0
    )
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert whole.choices[0].message.content == streamed == response.output_text == wanted.text
    assert whole.choices[0].finish_reason == wanted.finish_reason
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (
        wanted.prompt_tokens,
        wanted.completion_tokens,
    )
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens >= 32


@pytest.mark.parametrize("text", ["🎉🎊 👩‍👩‍👧 ", "日本語の文章 ", "naïve é ñ "])
def test_emoji_and_cjk_stream_as_they_are_whole(chatter: openai.OpenAI, text: str) -> None:
    request = {"model": "smollm2", "prompt": text * 4, "max_tokens": 16, "temperature": 0}
    whole = chatter.completions.create(**request).choices[0].text
    pieces = [chunk.choices[0].text for chunk in chatter.completions.create(**request, stream=True)]
    assert "".join(pieces) == whole


def test_every_answer_in_a_schema_parses_even_when_cut_short(chatter: openai.OpenAI) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
    for place, max_tokens in (("Bern", 40), ("Rome", 24)):
        messages = [{"role": "user", "content": f"Invent somebody from {place}. Answer in JSON."}]
        answer = asked(
            chatter, messages=messages, response_format=wanted, max_tokens=max_tokens, temperature=1, seed=1
        )
        person = json.loads(answer.choices[0].message.content)
        assert person.keys() == {"name", "age"}
        assert isinstance(person["age"], int)


def test_json_objects_and_regular_expressions_are_kept_to(chatter: openai.OpenAI) -> None:
    made = asked(chatter, response_format={"type": "json_object"}, max_tokens=24)
    assert isinstance(json.loads(made.choices[0].message.content), dict)
    year = asked(chatter, response_format={"type": "regex", "regex": r"(19|20)\d\d"})
    assert 1900 <= int(year.choices[0].message.content) < 2100
    choice = asked(chatter, response_format={"type": "choice", "choice": ["yes", "no"]})
    assert choice.choices[0].message.content in ("yes", "no")


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_that_must_be_called_is_called_with_arguments_that_fit(
    chatter: openai.OpenAI, stream: bool
) -> None:
    messages = [{"role": "user", "content": "What is the weather in Bern?"}]
    request = {"messages": messages, "tools": [WEATHER], "tool_choice": "required", "max_tokens": 28}
    if stream:
        deltas = [chunk.choices[0] for chunk in asked(chatter, **request, stream=True)]
        (call,) = [call for delta in deltas for call in delta.delta.tool_calls or ()]
        reason = deltas[-1].finish_reason
    else:
        choice = asked(chatter, **request).choices[0]
        (call,) = choice.message.tool_calls
        reason = choice.finish_reason
    assert (call.function.name, reason) == ("get_weather", "tool_calls")
    assert json.loads(call.function.arguments).keys() == {"city"}


def test_a_conversation_with_tool_results_goes_on(chatter: openai.OpenAI) -> None:
    call = {
        "id": "c1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Bern"}'},
    }
    messages = [
        {"role": "user", "content": "Weather in Bern?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]
    answer = asked(chatter, messages=messages, tools=[WEATHER], tool_choice="none", max_tokens=8)
    assert answer.choices[0].message.content


def test_twelve_clients_at_once_get_what_each_gets_alone(chatter: openai.OpenAI, here: LLM) -> None:
    prompts = [f"{word} is" for word in ("Water", "Snow", "Gold", "Paris", "Bread", "Wine")] * 2
    wanted = [answer.text for answer in here.generate(prompts[:6], max_tokens=6, temperature=0)] * 2

    def ask(prompt: str) -> str:
        request = {"model": "smollm2", "prompt": prompt, "max_tokens": 6, "temperature": 0}
        return "".join(c.choices[0].text for c in chatter.completions.create(**request, stream=True))

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, prompts)) == wanted


def test_a_client_that_leaves_frees_its_place(chatter: openai.OpenAI, smollm2: RunningServer) -> None:
    before = smollm2.metric("blixt_serve_requests_cancelled_total")
    for _ in range(5):  # more than run at once
        stream = asked(chatter, stream=True, max_tokens=900, messages=COUNT)
        next(iter(stream))
        stream.close()
    wait_until(
        lambda: smollm2.metric("blixt_serve_requests_cancelled_total") >= before + 5, 60, "all to be gone"
    )
    wait_until(lambda: smollm2.metric("blixt_serve_in_flight") == 0, 60, "nothing to be in flight")
    assert asked(chatter, max_tokens=4).choices[0].finish_reason == "length"


def test_metrics_tell_first_tokens_tokens_queue_and_cache(
    chatter: openai.OpenAI, smollm2: RunningServer
) -> None:
    for _ in range(2):
        asked(chatter, max_tokens=4)
    for name in ("first_piece_seconds", "token_seconds", "queue_seconds"):
        assert smollm2.metric(f"blixt_serve_{name}_count") >= 2, name
    assert smollm2.metric("blixt_serve_tokens_total", kind="cached") >= 32


def test_a_killed_worker_fails_its_requests_and_is_replaced(
    chatter: openai.OpenAI, smollm2: RunningServer
) -> None:
    (pid,) = smollm2.worker_pids()
    stream = asked(chatter, stream=True, max_tokens=900, messages=COUNT)
    pieces = iter(stream)
    next(pieces)
    threading.Timer(0, os.kill, (pid, signal.SIGKILL)).start()
    with pytest.raises((openai.APIError, httpx.HTTPError)):
        for _ in pieces:
            pass
    smollm2.wait_ready(60)
    assert smollm2.worker_pids() != [pid]
    assert asked(chatter, max_tokens=4).choices[0].message.content


def test_the_engine_tells_what_it_does_in_the_metrics(smollm2: RunningServer, chatter: openai.OpenAI) -> None:
    for _ in range(2):  # the second finds the first one's prompt in the cache
        chatter.completions.create(model="smollm2", prompt="def f(x):" * 20, max_tokens=3, temperature=0)
    text = httpx.get(f"{smollm2.url}/metrics").text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("blixt_llm_"))
    found = {name.partition("{")[0].removeprefix("blixt_llm_"): float(v) for name, v in values.items()}
    assert found["running"] == found["waiting"] == 0
    assert 0 <= found["blocks_used"] < found["blocks_total"]
    assert found["generated_tokens_total"] >= 6
    assert found["prompt_tokens_total"] > found["cached_tokens_total"] > 0
    assert found["ttft_seconds_count"] >= 2
    assert found["tpot_seconds_sum"] > 0
    assert found["queue_seconds_count"] == found["ttft_seconds_count"]
    assert found["preemptions_total"] == 0
