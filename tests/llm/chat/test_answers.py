"""Answers taken apart: content, reasoning and tool calls, whole or in any pieces."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from blixt.llm.chat.answers import AnswerKind, AnswerParser, parse
from blixt.llm.chat.calls import ToolCall

TAGGED = AnswerKind.of("<think></think><tool_call></tool_call>")
MISTRAL = AnswerKind.of("[TOOL_CALLS] [THINK]")
LLAMA = AnswerKind.of("<|python_tag|>")
DEEPSEEK = AnswerKind.of("</think> <｜tool▁calls▁begin｜>")
NAMED = AnswerKind.of("<|observation|>")
HARMONY = AnswerKind.of("<|channel|> <|message|>")
TOOLS = ("look", "add")
LOOK, ADD = ToolCall("look", '{"at": "Bern"}'), ToolCall("add", '{"a": 1, "b": 2}')

ANSWERS = [
    (TAGGED, "Hello there.\n", ("Hello there.\n", "", [])),
    (TAGGED, "<think>\nHm, so.\n</think>\n\nYes.", ("Yes.", "Hm, so.", [])),
    (TAGGED, '<tool_call>\n{"name": "look", "arguments": {"at": "Bern"}}\n</tool_call>', ("", "", [LOOK])),
    (
        TAGGED,
        "<think>x</think>\nI look.\n<tool_call>\n"
        '{"name": "look", "arguments": "{\\"at\\": \\"Bern\\"}"}\n</tool_call>\n'
        '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>',
        ("I look.", "x", [LOOK, ADD]),
    ),
    (
        TAGGED,
        "<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n<parameter=b>\n2\n</parameter>\n</function>\n</tool_call>",
        ("", "", [ADD]),
    ),
    (
        TAGGED,
        "<tool_call>look\n<arg_key>at</arg_key>\n<arg_value>Bern</arg_value>\n</tool_call>",
        ("", "", [LOOK]),
    ),
    (TAGGED, '<tool_call>{"name": "look", "arguments": {"at": "Bern"}}', ("", "", [LOOK])),
    (TAGGED, "a <tool_call>no call</tool_call> b", ("a <tool_call>no call</tool_call> b", "", [])),
    (TAGGED, "<think>never closed", ("", "never closed", [])),
    (TAGGED, "x <think> y </think>", ("x <think> y </think>", "", [])),
    (MISTRAL, '[TOOL_CALLS][{"name": "look", "arguments": {"at": "Bern"}}]', ("", "", [LOOK])),
    (
        MISTRAL,
        '[THINK]why[/THINK]So[TOOL_CALLS]look[CALL_ID]abc[ARGS]{"at": "Bern"}'
        '[TOOL_CALLS]add[ARGS]{"a": 1, "b": 2}',
        ("So", "why", [ToolCall("look", '{"at": "Bern"}', "abc"), ADD]),
    ),
    (LLAMA, '{"name": "look", "parameters": {"at": "Bern"}}', ("", "", [LOOK])),
    (
        LLAMA,
        '<|python_tag|>{"type": "function", "name": "look", "parameters": {"at": "Bern"}}',
        ("", "", [LOOK]),
    ),
    (LLAMA, '[look(at="Bern"), add(a=1, b=2)]', ("", "", [LOOK, ADD])),
    (LLAMA, '{"answer": 42}', ('{"answer": 42}', "", [])),
    (LLAMA, "[1, 2]", ("[1, 2]", "", [])),
    (LLAMA, "[look(at=open('x'))]", ("[look(at=open('x'))]", "", [])),
    (
        DEEPSEEK,
        "why</think>Well<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>look\n```json\n"
        '{"at": "Bern"}\n```<｜tool▁call▁end｜><｜tool▁call▁begin｜>add<｜tool▁sep｜>{"a": 1, "b": 2}'
        "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        ("Well", "why", [LOOK, ADD]),
    ),
    (NAMED, 'look\n{"at": "Bern"}', ("", "", [LOOK])),
    (NAMED, "look at this\n{}", ("look at this\n{}", "", [])),
    (
        HARMONY,
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.look "
        '<|constrain|>json<|message|>{"at": "Bern"}<|call|>',
        ("", "Hm.", [LOOK]),
    ),
    (
        HARMONY,
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
        "<|channel|>final<|message|>Yes < no.<|return|>",
        ("Yes < no.", "Hm.", []),
    ),
    (HARMONY, '{"at": 1}', ('{"at": 1}', "", [])),
]


def prompt_of(kind: AnswerKind) -> str:
    """DeepSeek's prompts end within reasoning."""
    return "<think>\n" if kind is DEEPSEEK else ""


@pytest.mark.parametrize(("kind", "text", "wanted"), ANSWERS)
def test_an_answer_is_taken_apart(
    kind: AnswerKind, text: str, wanted: tuple[str, str, list[ToolCall]]
) -> None:
    content, reasoning, calls = parse(text, kind, TOOLS, prompt_of(kind))
    assert (content, reasoning, list(calls)) == wanted


@given(st.sampled_from(ANSWERS), st.data())
def test_an_answer_in_pieces_comes_to_the_same_as_in_one(
    answer: tuple[AnswerKind, str, object], data: st.DataObject
) -> None:
    kind, text, _ = answer
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    check_pieces(kind, pieces)


PARTS = st.sampled_from(
    [
        *[
            "<think>",
            "</think>",
            "<tool_call>",
            "</tool_call>",
            "[TOOL_CALLS]",
            "[ARGS]",
            "<|python_tag|>",
            "<|channel|>",
        ],
        *[
            "<|message|>",
            "<|start|>",
            "<|end|>",
            "<|call|>",
            "analysis",
            "final",
            "to=functions.look",
            "assistant",
            "look",
        ],
        *[
            "[",
            "{",
            "(",
            "a",
            "<",
            "日",
            "me",
            "🎉",
            "<|",
            "</",
            "<｜tool▁calls▁begin｜>",
            "<｜tool▁calls▁end｜>",
            "<｜tool▁sep｜>",
        ],
        *('{"name": "look", "arguments": {}}', '{"na', "\n", " ", "<｜tool▁call▁begin｜>"),
    ]
)


@given(
    st.sampled_from([TAGGED, MISTRAL, LLAMA, DEEPSEEK, NAMED, HARMONY]),
    st.lists(PARTS, max_size=10),
    st.data(),
)
@example(TAGGED, ["a", " ", "<tool_call>", " "], None)
def test_whatever_a_model_writes_splitting_it_changes_nothing(
    kind: AnswerKind, parts: list[str], data: st.DataObject | None
) -> None:
    text = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=20))) if data else []
    check_pieces(kind, [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)])
    check_pieces(kind, list(text))


def check_pieces(kind: AnswerKind, pieces: list[str]) -> None:
    parser = AnswerParser(kind, TOOLS, prompt_of(kind))
    parts = [part for piece in pieces for part in parser.feed(piece)] + parser.finish()
    joined = (
        "".join(part.text for part in parts if part.kind == "content"),
        "".join(part.text for part in parts if part.kind == "reasoning"),
        [part.call for part in parts if part.call],
    )
    content, reasoning, calls = parse("".join(pieces), kind, TOOLS, prompt_of(kind))
    assert joined == (content, reasoning, list(calls))
    for call in calls:
        json.loads(call.arguments)


def test_content_is_sent_as_soon_as_no_marker_can_follow() -> None:
    parser = AnswerParser(TAGGED, TOOLS)
    assert [part.text for part in parser.feed("Hello <")] == ["Hello"]
    assert [part.text for part in parser.feed("b> you")] == [" <b> you"]


def test_calls_are_not_looked_for_where_no_tools_were_offered() -> None:
    text = '<tool_call>{"name": "look", "arguments": {}}</tool_call>'
    assert parse(text, TAGGED)[0] == text


def test_a_template_without_markers_leaves_answers_as_they_are() -> None:
    kind = AnswerKind.of("{% for m in messages %}{{ m.content }}{% endfor %}")
    assert (kind.thinking, kind.calls, kind.harmony) == (None, None, False)
    assert parse("  <think> a\n", kind, TOOLS) == ("  <think> a\n", "", [])
