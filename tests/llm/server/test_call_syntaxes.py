"""Calls in the syntaxes of real model families, through the server to OpenAI's own client.

The model is a small real one whose weights make it say a chosen token at each position: so it can be made to
write what Qwen, Llama, gpt-oss, Mistral and DeepSeek models write. It is served once for all of them; what
the client calls the model says whose chat template applies.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.llm.server.conftest import client_of

from blixt.llm import GPT, ChatAPI, ModelConfig, Tokenizer, save_checkpoint
from blixt.llm.chat.template import ChatTemplate
from blixt.llm.server import ServeOptions
from blixt.llm.server.prompt import Prompter
from blixt.llm.server.requests import ChatBody
from blixt.serve import Server
from blixt.serve.specs.openai_types import Message
from blixt.serve.testing import running

HARMONY = ("<|channel|>", "<|message|>", "<|constrain|>", "<|call|>", "<|end|>", "<|start|>", "<|return|>")
CALLS = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"
SPECIAL = [*HARMONY, *CALLS, *CALL, "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "<|python_tag|>"]
BERN, ROME = '{"city": "Bern"}', '{"city": "Rome"}'
TO = "<|channel|>commentary to=functions.get_weather "
SAID = {
    "qwen": (
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Bern"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>',
        "<tool_call> tools",
    ),
    "llama": (
        '{"name": "get_weather", "parameters": {"city": "Bern"}}; '
        '{"name": "get_weather", "parameters": {"city": "Rome"}}',
        "<|python_tag|> tools",
    ),
    "gpt-oss": (
        f"<|channel|>analysis<|message|>Two.<|end|><|start|>assistant{TO}<|constrain|>json<|message|>{BERN}<|call|>"
        f"<|start|>assistant{TO}<|constrain|>json<|message|>{ROME}<|call|>",
        "<|channel|> <|message|> tools",
    ),
    "gpt-oss at once": (f"{TO}<|constrain|>json<|message|>{BERN}<|call|>", "<|channel|> <|message|> tools"),
    "mistral": (
        f"[TOOL_CALLS]get_weather[ARGS]{BERN}[TOOL_CALLS]get_weather[ARGS]{ROME}",
        "[TOOL_CALLS] [ARGS] tools",
    ),
    "deepseek": (
        f"{CALLS[0]}{CALL[0]}get_weather{CALL[1]}{BERN}{CALL[2]}{CALL[0]}get_weather{CALL[1]}{ROME}{CALL[2]}{CALLS[1]}",
        f"{CALLS[0]} tools",
    ),
    "answering": ('{"sunny": true}', "<tool_call> tools"),
    "rambling": ("It is lovely out there in Bern today.", "<tool_call> tools"),
}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
ANSWER = {"type": "object", "properties": {"sunny": {"type": "boolean"}}, "required": ["sunny"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "answer", "schema": ANSWER}}


def template(name: str, tokenizer: Tokenizer) -> ChatTemplate:
    """A template of its own that holds the markers of a family, which tell how its models write."""
    source = (
        "{# " + SAID[name][1].replace("#", "") + " #}{% if tools %}{{ tools | length }}{% endif %}"
        "{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    return ChatTemplate(source, tokenizer=tokenizer)


def question(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": "x" * (1 + 200 * number)}]


def speaking(places: dict[int, int], vocab: int) -> GPT:
    """A model that says token `places[p]` behind position p, whatever stands before it."""
    width = max(places) + 2
    config = ModelConfig(
        vocab=vocab,
        d=width,
        layers=1,
        heads=1,
        kv_heads=1,
        head_dim=width,
        d_ff=4,
        context=width + 100,
        position="learned",
        norm="layer",
        mlp="plain",
        act="gelu_tanh",
        tie=False,
        model_type="gpt2",
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        eos=0,
    )
    model = GPT(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)
    for place, token in places.items():
        model.pos_embed.weight[place, place] = 1
        model.head.weight[token, place] = 1
    return model


class ManyFamilies(ChatAPI):
    """One model under several chat templates: the model's name in the request says which."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "model", ServeOptions(adapters=dict.fromkeys(SAID, "")))
        self.options = ServeOptions()  # the names are known now, and there are no adapters to load

    def load(self, device: str) -> None:
        super().load(device)
        tokenizer = self.llm.tokenizer
        self.prompters = {name: Prompter(tokenizer, template(name, tokenizer)) for name in SAID}

    def add_request(self, uid: str, request: Any) -> None:
        self.prompter = self.prompters[request.model]
        super().add_request(uid, request)


@pytest.fixture(scope="module")
def families(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    folder: Path = tmp_path_factory.mktemp("families")
    tokenizer.save(folder)
    marked = Tokenizer.load(folder)
    marked.inner.add_special_tokens(SPECIAL)
    marked.save(folder)
    marked, places = Tokenizer.load(folder), dict[int, int]()
    for number, name in enumerate(SAID):
        body = ChatBody(model=name, messages=[Message("user", question(number)[0]["content"])], tools=[TOOL])
        start = len(Prompter(marked, template(name, marked)).chat(body).ids) - 1
        said = [*marked.encode(SAID[name][0], bos=False), marked.eos[0]]
        assert not places.keys() & set(range(start, start + len(said)))
        places |= {start + i: token for i, token in enumerate(said)}
    save_checkpoint(speaking(places, marked.inner.get_vocab_size()), folder)
    with running(Server(ManyFamilies(folder), devices=1, accelerator="cpu")) as place:
        yield client_of(place)


def ask(client: openai.OpenAI, name: str, **given: Any) -> Any:
    return client.chat.completions.create(
        model=name,
        messages=question(list(SAID).index(name)),
        tools=[TOOL],
        temperature=0,
        max_tokens=150,
        **given,
    )


FAMILIES = ["qwen", "llama", "gpt-oss", "mistral", "deepseek"]


@pytest.mark.parametrize("name", FAMILIES)
def test_calls_come_out_whole_and_streamed(families: openai.OpenAI, name: str) -> None:
    choice = ask(families, name).choices[0]
    calls = [(c.function.name, json.loads(c.function.arguments)) for c in choice.message.tool_calls]
    assert calls == [("get_weather", json.loads(BERN)), ("get_weather", json.loads(ROME))]
    assert choice.finish_reason == "tool_calls"
    assert not choice.message.content
    streamed = dict[int, str]()
    for chunk in ask(families, name, stream=True):
        for call in chunk.choices[0].delta.tool_calls or ():
            streamed[call.index] = streamed.get(call.index, "") + (call.function.arguments or "")
    assert [json.loads(text) for text in streamed.values()] == [json.loads(BERN), json.loads(ROME)]


@pytest.mark.parametrize("name", [name.replace("gpt-oss", "gpt-oss at once") for name in FAMILIES])
def test_beside_a_response_format_a_model_may_call(families: openai.OpenAI, name: str) -> None:
    choice = ask(families, name, response_format=FORMAT).choices[0]
    (call,) = choice.message.tool_calls
    assert call.function.name == "get_weather"
    assert list(json.loads(call.function.arguments)) == ["city"]
    assert choice.finish_reason == "tool_calls"


def test_beside_tools_a_model_may_answer_in_the_format(families: openai.OpenAI) -> None:
    choice = ask(families, "answering", response_format=FORMAT).choices[0]
    assert json.loads(choice.message.content) == {"sunny": True}
    assert not choice.message.tool_calls
    assert choice.finish_reason == "stop"


@pytest.mark.parametrize("max_tokens", [40, 150])
def test_a_model_that_would_ramble_is_held_to_the_format_or_a_call(
    families: openai.OpenAI, max_tokens: int
) -> None:
    messages = question(list(SAID).index("rambling"))
    answer = families.chat.completions.create(
        model="rambling",
        messages=messages,
        tools=[TOOL],
        response_format=FORMAT,
        temperature=0,
        max_tokens=max_tokens,
    )
    message = answer.choices[0].message
    if message.tool_calls:
        assert list(json.loads(message.tool_calls[0].function.arguments)) == ["city"]
    else:
        assert list(json.loads(message.content)) == ["sunny"]
