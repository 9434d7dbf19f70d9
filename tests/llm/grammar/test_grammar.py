"""Grammars on random logits: a stand-in model that would write nonsense if it were let."""

import json
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blixt.llm.engine.grammar import Format, Grammar, allocate_bitmask, apply_bitmask, compile_format
from blixt.llm.errors import LLMError
from blixt.llm.tokenizer import Tokenizer

VOCAB = 600  # more than the tokenizer has, as padded models do

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}},
    },
    "required": ["name", "age", "tags"],
    "$defs": {
        "tag": {
            "type": "object",
            "properties": {"key": {"type": "number"}, "value": {"type": "string", "minLength": 4}},
            "required": ["key", "value"],
        }
    },
}


def write(grammar: Grammar, tokens: int, seed: int, eos: int = 0) -> list[int]:
    """Sample from random logits under a grammar until it ends or the tokens run out."""
    generator, bitmask, out = torch.Generator().manual_seed(seed), allocate_bitmask(1, VOCAB), list[int]()
    for left in range(tokens, 0, -1):
        logits = torch.randn(1, VOCAB, generator=generator) * 2
        grammar.fill(bitmask[0], left)
        apply_bitmask(logits, bitmask)
        token = grammar.accept(int(logits.softmax(-1).multinomial(1, generator=generator)), left)
        if token == eos:
            break
        out.append(token)
        if grammar.done:
            break
    return out


@settings(max_examples=12, deadline=None)
@given(tokens=st.integers(30, 150), seed=st.integers(0, 2**31))
def test_a_schema_is_kept_and_closed_at_every_length_limit(
    tokenizer: Tokenizer, tokens: int, seed: int
) -> None:
    grammar = compile_format(Format.json_schema(PERSON), tokenizer, VOCAB)
    value = json.loads(tokenizer.decode(write(grammar, tokens, seed)))
    assert grammar.complete
    assert isinstance(value["age"], int)
    # Random bytes can be a surrogate, one character to xgrammar and three replacement characters to Python.
    assert len(value["name"].replace("\ufffd" * 3, "\ufffd")) <= 12
    assert all(len(tag["value"]) >= 4 for tag in value["tags"])


@settings(max_examples=10, deadline=None)
@given(tokens=st.integers(8, 100), seed=st.integers(0, 2**31))
def test_a_json_object_is_closed_at_every_length_limit(tokenizer: Tokenizer, tokens: int, seed: int) -> None:
    grammar = compile_format(Format.json_object(), tokenizer, VOCAB)
    assert isinstance(json.loads(tokenizer.decode(write(grammar, tokens, seed))), dict)


@pytest.mark.parametrize("pattern", ["[a-z]*!", "[a-z.]*!", "[0-9]{4}-[0-9]{2}", "(é|ü)+x", "a{30}b"])
def test_a_regex_matches_from_end_to_end(tokenizer: Tokenizer, pattern: str) -> None:
    for seed in range(3):
        grammar = compile_format(Format.regex(pattern), tokenizer, VOCAB)
        assert re.fullmatch(pattern, tokenizer.decode(write(grammar, 60, seed)))


LARGE = {
    "type": "object",
    "properties": {
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {f"field_{i}": {"type": ["integer", "null"]} for i in range(6)},
                "required": [f"field_{i}" for i in range(6)],
            },
        },
        "date": {"type": "string", "format": "date"},
        "mail": {"type": "string", "format": "email"},
        "code": {"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"},
    },
    "required": ["items", "date", "mail", "code"],
}


def test_a_choice_is_one_of_the_texts(tokenizer: Tokenizer) -> None:
    choices = ["yes", 'no, "é"\n', "{maybe}"]
    texts = {
        tokenizer.decode(write(compile_format(Format.choice(choices), tokenizer, VOCAB), 40, seed))
        for seed in range(12)
    }
    assert texts == set(choices)


def test_an_ebnf_grammar_nests_and_is_closed(tokenizer: Tokenizer) -> None:
    rule = Format.ebnf('root ::= "(" root "+" root ")" | [1-9]+')
    for seed in range(5):
        text = tokenizer.decode(write(compile_format(rule, tokenizer, VOCAB), 50, seed))
        assert isinstance(eval(text), int)
        assert text.count("(") == text.count(")") == text.count("+")


def test_a_text_that_cannot_be_closed_in_time_says_so(tokenizer: Tokenizer) -> None:
    grammar = compile_format(Format.json_schema(PERSON), tokenizer, VOCAB)
    write(grammar, 5, seed=0)
    assert not grammar.complete
    assert not grammar.done


def test_an_integer_ends_though_the_schema_sets_no_limit(tokenizer: Tokenizer) -> None:
    grammar = compile_format(Format.json_schema({"type": "integer"}), tokenizer, VOCAB)
    for digit in "9" * 18:
        grammar.accept(tokenizer.encode(digit)[0], 100)
    assert grammar.done


def test_done_only_when_nothing_may_follow(tokenizer: Tokenizer) -> None:
    grammar = compile_format(Format.regex("[0-9]{1,2}"), tokenizer, VOCAB)
    seven = tokenizer.encode("7")[0]
    grammar.accept(seven, 10)
    assert grammar.complete
    assert not grammar.done
    grammar.accept(seven, 9)
    assert grammar.done


def test_rolling_back_restores_what_may_follow(tokenizer: Tokenizer) -> None:
    grammar = compile_format(Format.json_schema(PERSON), tokenizer, VOCAB)
    before, after = allocate_bitmask(2, VOCAB)
    grammar.accept(tokenizer.encode("{")[0], 40)
    grammar.fill(before, 39)
    for token in tokenizer.encode('"name": "x'):
        grammar.accept(token, 39)
    grammar.rollback(len(tokenizer.encode('"name": "x')))
    grammar.fill(after, 39)
    assert torch.equal(before, after)


@settings(max_examples=10, deadline=None)
@given(tokens=st.integers(24, 60), seed=st.integers(0, 2**31), wrong=st.integers(0, 3))
def test_rows_of_a_draft_are_those_of_single_steps(
    tokenizer: Tokenizer, tokens: int, seed: int, wrong: int
) -> None:
    text = write(compile_format(Format.json_schema(PERSON), tokenizer, VOCAB), tokens, seed)
    drafted = compile_format(Format.json_schema(PERSON), tokenizer, VOCAB)
    single = compile_format(Format.json_schema(PERSON), tokenizer, VOCAB)
    draft = [*text[:wrong], 1, *text[wrong + 1 : 5]]
    rows = allocate_bitmask(1 + len(draft), VOCAB)
    fitting = drafted.fill_draft(rows, draft, tokens)
    assert fitting >= min(wrong, len(text))
    row = allocate_bitmask(1, VOCAB)[0]
    for index in range(fitting + 1):
        single.fill(row, tokens - index)
        assert torch.equal(row, rows[index])
        if index < fitting:
            assert single.accept(draft[index], tokens - index) == draft[index]


def test_a_token_against_the_grammar_is_an_error(tokenizer: Tokenizer) -> None:
    grammar = compile_format(Format.choice(["yes"]), tokenizer, VOCAB)
    with pytest.raises(LLMError, match="does not fit the request's format"):
        grammar.accept(tokenizer.encode("n")[0], 10)


def test_grammars_of_one_format_share_what_was_compiled_but_no_state(tokenizer: Tokenizer) -> None:
    first = compile_format(Format.choice(["ab"]), tokenizer, VOCAB)
    second = compile_format(Format.choice(["ab"]), tokenizer, VOCAB)
    first.accept(tokenizer.encode("a")[0], 10)
    second.accept(tokenizer.encode("a")[0], 10)
    assert not second.complete


def test_a_bitmask_leaves_rows_without_a_grammar_alone(tokenizer: Tokenizer) -> None:
    bitmask, logits = allocate_bitmask(3, VOCAB), torch.zeros(3, VOCAB)
    compile_format(Format.choice(["yes"]), tokenizer, VOCAB).fill(bitmask[1], 9)
    apply_bitmask(logits, bitmask, rows=[1])
    assert logits[[0, 2]].isfinite().all()
    allowed = logits[1].isfinite().nonzero().flatten().tolist()
    assert {tokenizer.decode([token]) for token in allowed} <= {"y", "ye", "yes"}
    assert allowed
