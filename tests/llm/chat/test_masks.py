"""Which tokens of a conversation the assistant said."""

from typing import Any

import pytest
from tests.llm.chat.test_templates import CONVERSATIONS, TEMPLATES, WEATHER

from blixt.llm.chat.masks import answer_spans
from blixt.llm.chat.styles import style, style_names
from blixt.llm.chat.template import ChatTemplate
from blixt.llm.errors import TemplateError
from blixt.llm.tokenizer import Tokenizer, TokenizerFacts

TURNS = CONVERSATIONS[2]


def said(template: ChatTemplate, messages: Any, **options: Any) -> list[str]:
    text, spans = answer_spans(template, messages, **options)
    assert text == template.render(messages, add_generation_prompt=False, **options)
    return [text[start:stop] for start, stop in spans]


def real(name: str) -> ChatTemplate:
    return ChatTemplate((TEMPLATES / f"{name}.jinja").read_text(), {"eos_token": "<|im_end|>"})


def test_generation_blocks_say_it_themselves() -> None:
    source = (
        "{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}{% generation %}{{ m.content }}!"
        "{% endgeneration %}{% else %}{{ m.content }}{% endif %}\n{% endfor %}"
    )
    assert said(ChatTemplate(source), TURNS) == ["b!", "partial answer !"]


@pytest.mark.parametrize("name", ["smollm2", "qwen3"])
def test_a_template_without_them_is_told_apart_by_its_prefixes(name: str) -> None:
    answers = said(real(name), TURNS)
    assert len(answers) == 2
    assert answers[0].startswith("b<|im_end|>")
    assert "partial answer" in answers[1]
    assert not any("user" in answer for answer in answers)


def test_reasoning_that_is_left_out_of_earlier_turns_does_not_matter() -> None:
    thought = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes"}
    first, second = said(real("qwen3"), [TURNS[0], thought, *CONVERSATIONS[4][2:]])
    assert first.startswith("Yes<|im_end|>")
    assert second.startswith("<think>\ndeep\n</think>\n\nfine<|im_end|>")


def test_tool_calls_are_said_and_their_results_are_not() -> None:
    (answer,) = said(real("qwen3"), CONVERSATIONS[3], tools=[WEATHER])
    assert '"name": "get_weather"' in answer
    assert "sunny" not in answer


@pytest.mark.parametrize("name", style_names())
def test_every_prompt_style_can_be_masked(name: str, tokenizer: Tokenizer) -> None:
    specials = Tokenizer(tokenizer.inner, TokenizerFacts(specials={"eos_token": "</s>"}))
    answers = said(style(name, specials), TURNS)
    assert [answer.strip()[:1] for answer in answers] == ["b", "p"]


def test_the_mask_ends_with_the_end_of_the_turn(tokenizer: Tokenizer) -> None:
    source = (TEMPLATES / "smollm2.jinja").read_text().replace("<|im_end|>", "<|endoftext|>")
    template = ChatTemplate(source, tokenizer=tokenizer)
    ids, mask = template.mask(TURNS)
    masked = [token for token, is_said in zip(ids, mask, strict=True) if is_said]
    assert tokenizer.decode(masked, skip_special=False) == "b<|endoftext|>partial answer <|endoftext|>"
    assert ids == template.ids(TURNS, add_generation_prompt=False)


def test_a_template_that_does_not_show_where_answers_are_is_refused() -> None:
    with pytest.raises(TemplateError, match="message 1 begins and ends"):
        answer_spans(ChatTemplate("{% for m in messages | reverse %}{{ m.content }}{% endfor %}"), TURNS)
