"""Conversations as text: what transformers' `apply_chat_template` gives, on the templates of real models."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.llm.chat.real_tokenizers import real_tokenizer
from transformers.utils.chat_template_utils import render_jinja_template

from blixt.llm.chat.template import ChatTemplate
from blixt.llm.errors import PromptError, TemplateError
from blixt.llm.tokenizer import Tokenizer

TEMPLATES = Path(__file__).parent / "templates"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": 'Weather "now" & <b>é</b>',
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Bern"}}}
CONVERSATIONS = [
    [{"role": "user", "content": "Hi 🎉"}],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": " Hi  "},
        {"role": "assistant", "content": "Hello "},
        {"role": "user", "content": "日本?"},
    ],
    [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "partial answer "},
    ],
    [
        {"role": "user", "content": "w?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "sunny"},
        {"role": "user", "content": "thx"},
    ],
    [
        {"role": "user", "content": "w?"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes", "reasoning_content": "hm"},
        {"role": "user", "content": "ok"},
        {"role": "assistant", "content": "fine", "reasoning_content": "deep"},
    ],
]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"add_generation_prompt": True},
    {"continue_final_message": True},
    {"add_generation_prompt": True, "enable_thinking": False},
    {"documents": [{"title": "t", "text": "x"}]},
]
HARD = (
    "{%- set ns = namespace(n=0) -%}{% for m in messages %}{% if m.role == 'skip' %}{% continue %}{% endif %}"
    "{% if loop.index > 3 %}{% break %}{% endif %}{% set ns.n = ns.n + 1 %}"
    "{{ ns.n ~ ':' ~ m.content | trim }}\n{% endfor %}"
    "{{ tools | tojson(indent=2) if tools }}{{ documents | tojson if documents }}{{ bos_token }}"
    "{% generation %}{{ messages | length }}{% endgeneration %}{{ strftime_now('%Y') }}"
    "{% macro twice(x) %}{{ x }}{{ x }}{% endmacro %}{{ twice(messages[0].content[:2]) }}"
    "{{ '%s-%d' | format('a', 3) }}{{ ('a b c'.split(' ') | join('+')).upper() }}"
    "{{ {'b': 1, 'a': [1, 2]} | dictsort }}"
)


def sources(name: str) -> tuple[str, Mapping[str, str]]:
    if name == "hard":
        return HARD, {"bos_token": "<s>"}
    if (path := TEMPLATES / f"{name}.jinja").exists():
        return path.read_text(), {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    facts = Tokenizer.load(real_tokenizer(name)).facts
    return facts.templates["default"], facts.specials


@pytest.mark.parametrize("name", ["smollm2", "qwen3", "hard", "llama3", "gemma3"])
def test_the_text_equals_transformers(name: str) -> None:
    source, specials = sources(name)
    template = ChatTemplate(source, specials)
    compared = 0
    for messages in CONVERSATIONS:
        for tools in (None, [WEATHER]):
            for extra in OPTIONS:
                options = {"add_generation_prompt": False, **extra}
                wanted = theirs(source, specials, messages, tools, options)
                if wanted is None:
                    with pytest.raises((TemplateError, PromptError)):
                        template.render(messages, tools=tools, **options)
                else:
                    assert template.render(messages, tools=tools, **options) == wanted
                    compared += 1
    assert compared >= 20


def theirs(
    source: str, specials: Mapping[str, str], messages: Any, tools: Any, options: dict[str, Any]
) -> str | None:
    """What transformers writes; None where it refuses."""
    try:
        return render_jinja_template([messages], tools=tools, chat_template=source, **options, **specials)[0][
            0
        ]
    except Exception:  # whatever it refuses with
        return None


def test_a_system_prompt_documents_and_the_date_reach_the_template() -> None:
    template = ChatTemplate(
        "{{ messages[0].content }}|{{ documents[0].title }}|{{ strftime_now('%d') | length }}|{{ mood }}"
    )
    text = template.render(
        [{"role": "system", "content": "S"}], documents=[{"title": "T", "text": ""}], mood="fine"
    )
    assert text == "S|T|2|fine"


def test_arguments_that_clients_send_as_text_are_objects_to_the_template() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": "é"}'}}
    template = ChatTemplate("{{ messages[0].tool_calls[0].function.arguments | tojson }}")
    assert template.render([{"role": "assistant", "content": None, "tool_calls": [call]}]) == '{"a": "é"}'


def test_text_parts_are_joined_and_other_parts_refused() -> None:
    template = ChatTemplate("{{ messages[0].content }}")
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert template.render([{"role": "user", "content": parts}]) == "ab"
    with pytest.raises(PromptError, match="'image_url'"):
        template.render([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}])


def test_what_a_template_refuses_and_what_is_no_template_is_said_in_a_sentence() -> None:
    with pytest.raises(TemplateError, match="refuses this conversation: only users"):
        ChatTemplate("{{ raise_exception('only users') }}").render([{"role": "user", "content": ""}])
    with pytest.raises(TemplateError, match="no Jinja template"):
        ChatTemplate("{% for %}")
    with pytest.raises(PromptError, match="message 0 has no text"):
        ChatTemplate("x").render([{"role": "user"}])
    with pytest.raises(TemplateError, match="does not write the last message"):
        ChatTemplate("x").render([{"role": "assistant", "content": "a"}], continue_final_message=True)


def test_ids_are_those_of_the_text_without_a_second_beginning(tokenizer: Tokenizer) -> None:
    template = ChatTemplate("{{ messages[0].content }}", tokenizer=tokenizer)
    assert template.ids([{"role": "user", "content": "def f"}]) == tokenizer.encode("def f", bos=False)
