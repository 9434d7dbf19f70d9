"""A text that may take one of several forms takes one, is whole at any limit, and can be taken back."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.llm.grammar.test_grammar import VOCAB, write

from blixt.llm.engine.grammar import Format, allocate_bitmask, compile_format
from blixt.llm.errors import FormatError
from blixt.llm.tokenizer import Tokenizer

ANSWER = Format.json_schema(
    {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
)
CALL = Format.json_schema(
    {
        "type": "object",
        "properties": {"name": {"const": "f"}, "x": {"type": "integer"}},
        "required": ["name", "x"],
    }
)
EITHER = Format.either([("", ANSWER), ("<call>", CALL)])


@settings(max_examples=15, deadline=None)
@given(tokens=st.integers(30, 80), seed=st.integers(0, 2**31))
def test_every_text_is_one_of_the_forms_whole(tokenizer: Tokenizer, tokens: int, seed: int) -> None:
    grammar = compile_format(EITHER, tokenizer, VOCAB)
    text = tokenizer.decode(write(grammar, tokens, seed))
    assert grammar.complete
    value = json.loads(text.removeprefix("<call>").replace("\ufffd" * 3, "\ufffd"))
    assert value.get("name") == "f" if text.startswith("<call>") else isinstance(value["text"], str)


def test_forms_that_begin_alike_are_both_open_until_they_differ(tokenizer: Tokenizer) -> None:
    grammar = compile_format(Format.either([("", ANSWER), ("", CALL)]), tokenizer, VOCAB)
    for token in tokenizer.encode('{"'):
        assert grammar.accept(token, 90) == token
    texts = [tokenizer.decode(write_on(grammar, 60, seed)) for seed in range(12)]
    assert {text.lstrip()[:1] for text in texts} == {"t", "n"}


def write_on(grammar, tokens: int, seed: int) -> list[int]:  # type: ignore[no-untyped-def]
    """Write, and take it all back."""
    out = write(grammar, tokens, seed)
    grammar.rollback(len(out))
    return out


def test_a_free_form_lets_anything_follow_and_is_never_called_complete(tokenizer: Tokenizer) -> None:
    grammar = compile_format(Format.either([("", ANSWER), ("<call>", None)]), tokenizer, VOCAB)
    for token in tokenizer.encode("<call>"):
        grammar.accept(token, 90)
    row = allocate_bitmask(1, VOCAB)
    grammar.fill(row[0], 50)
    assert bool((row == -1).all())
    assert not grammar.complete
    assert not grammar.done


def test_rows_of_a_draft_are_those_of_single_steps_and_leave_no_trace(tokenizer: Tokenizer) -> None:
    drafted, single = (compile_format(EITHER, tokenizer, VOCAB) for _ in range(2))
    draft = tokenizer.encode("<call>")
    rows = allocate_bitmask(1 + len(draft), VOCAB)
    assert drafted.fill_draft(rows, draft, 70) == len(draft)
    row = allocate_bitmask(1, VOCAB)[0]
    for index in range(len(draft) + 1):
        single.fill(row, 70 - index)
        assert torch.equal(row, rows[index])
        if index < len(draft):
            single.accept(draft[index], 70 - index)
    drafted.fill(row, 70)
    assert torch.equal(row, rows[0])


def test_impossible_choices_are_refused() -> None:
    with pytest.raises(FormatError, match="needs an opening"):
        Format.either([("", ANSWER), ("", None)])
    with pytest.raises(FormatError, match="none of them a choice of forms itself"):
        Format.either([("", EITHER)])


def test_a_limit_too_short_for_one_of_the_forms_is_refused(tokenizer: Tokenizer) -> None:
    grammar = compile_format(EITHER, tokenizer, VOCAB)
    with pytest.raises(FormatError, match="room for 3"):
        grammar.check_room(3)
