"""Requests as prompts: which template, which tools, where the answer begins."""

from typing import Any

import pytest
from tests.llm.chat.test_templates import TEMPLATES, WEATHER

from blixt.llm.chat.template import ChatTemplate
from blixt.llm.engine.grammar import compile_format
from blixt.llm.server.prompt import Prompter
from blixt.llm.server.requests import ChatBody
from blixt.llm.tokenizer import Tokenizer
from blixt.serve.specs.openai_types import Message


def prompter(tokenizer: Tokenizer, name: str) -> Prompter:
    source = (TEMPLATES / f"{name}.jinja").read_text() if name in ("qwen3", "smollm2") else name
    return Prompter(tokenizer, ChatTemplate(source, tokenizer=tokenizer))


def prompt(made: Prompter, *messages: Message, **given: Any) -> str:
    prepared = made.chat(ChatBody(model="m", messages=list(messages), **given))
    return made.tokenizer.decode(prepared.ids, skip_special=False)


HI = Message("user", "hi")


def test_a_template_that_takes_tools_gets_them(tokenizer: Tokenizer) -> None:
    text = prompt(prompter(tokenizer, "qwen3"), HI, tools=[WEATHER])
    assert "# Tools" in text
    assert "get_weather" in text
    assert "get_weather" not in prompt(prompter(tokenizer, "qwen3"), HI, tools=[WEATHER], tool_choice="none")


def test_a_template_that_takes_none_is_told_in_the_system_prompt(tokenizer: Tokenizer) -> None:
    made = prompter(tokenizer, "smollm2")
    text = prompt(made, Message("system", "Be brief."), HI, tools=[WEATHER])
    assert "<|im_start|>system\nBe brief.\n\nYou may call functions" in text
    call = {"type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Bern"}'}}
    later = prompt(
        made,
        HI,
        Message("assistant", tool_calls=[call]),
        Message("tool", "sunny", tool_call_id="1"),
        tools=[WEATHER],
    )
    assert '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Bern"}}\n</tool_call>' in later
    assert "<tool_response>\nsunny\n</tool_response>" in later


def test_a_call_that_must_come_begins_in_the_prompt(tokenizer: Tokenizer) -> None:
    made = prompter(tokenizer, "qwen3")
    prepared = made.chat(ChatBody(model="m", messages=[HI], tools=[WEATHER], tool_choice="required"))
    assert made.tokenizer.decode(prepared.ids, skip_special=False).endswith(
        "<|im_start|>assistant\n<tool_call>\n"
    )
    assert prepared.format is not None
    (part,) = prepared.parser.feed('{"name": "get_weather", "arguments": {}}') + prepared.parser.finish()
    assert part.call is not None


def test_effort_reaches_the_template_and_none_switches_reasoning_off(tokenizer: Tokenizer) -> None:
    made = prompter(tokenizer, "qwen3")
    assert prompt(made, HI, reasoning_effort="none").endswith("<think>\n\n</think>\n\n")
    assert prompt(made, HI).endswith("assistant\n")


def test_a_format_is_not_written_within_reasoning(tokenizer: Tokenizer) -> None:
    made = prompter(tokenizer, "{{ messages[0].content }}<think>\n</think>"[:-8])
    assert prompt(made, HI, response_format={"type": "json_object"}).endswith("<think>\n\n</think>\n\n")
    harmony = prompter(tokenizer, "{# <|channel|><|message|> #}{{ messages[0].content }}<|start|>assistant")
    text = prompt(harmony, HI, response_format={"type": "json_object"})
    assert text.endswith("<|start|>assistant<|channel|>final<|message|>")


def test_a_developer_is_the_system_where_the_template_knows_none(tokenizer: Tokenizer) -> None:
    text = prompt(prompter(tokenizer, "smollm2"), Message("developer", "Be brief."), HI)
    assert "<|im_start|>system\nBe brief." in text


def test_free_tools_beside_a_format_leave_the_choice_to_the_model(tokenizer: Tokenizer) -> None:
    made = prompter(tokenizer, "qwen3")
    body = ChatBody(model="m", messages=[HI], tools=[WEATHER], response_format={"type": "json_object"})
    prepared = made.chat(body)
    assert prepared.format is not None
    assert [opening for opening, _ in prepared.format.branches] == ["", "<tool_call>\n"]
    parts = prepared.parser.feed('<tool_call>\n{"name": "get_weather", "arguments": {"city": "Bern"}}')
    parts += prepared.parser.finish()
    assert [part.call.name for part in parts if part.call is not None] == ["get_weather"]


SELF_DEFINED = {
    "type": "object",
    "properties": {"at": {"$ref": "#/$defs/place"}},
    "required": ["at"],
    "$defs": {"place": {"type": "string", "enum": ["Bern"]}},
}


@pytest.mark.parametrize("choice", ["required", "auto"])
def test_parameters_that_refer_to_their_own_definitions_compile(tokenizer: Tokenizer, choice: str) -> None:
    tools = [{"type": "function", "function": {"name": name, "parameters": SELF_DEFINED}} for name in "fg"]
    wanted = None if choice == "required" else {"type": "json_object"}
    for template in ("qwen3", "{# tools <|python_tag|> #}", "{# tools [TOOL_CALLS] #}"):
        made = prompter(tokenizer, template)
        body = ChatBody(model="m", messages=[HI], tools=tools, tool_choice=choice, response_format=wanted)
        prepared = made.chat(body)
        assert prepared.format is not None
        compile_format(prepared.format, tokenizer, len(tokenizer))
