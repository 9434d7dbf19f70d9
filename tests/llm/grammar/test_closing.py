"""Whatever the format and the limit, what random logits write is whole and valid if there is room for it."""

import json
import random
import re
from typing import Any

import jsonschema
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.llm.grammar.test_grammar import LARGE, VOCAB, write

from blixt.llm.engine import Engine, EngineConfig
from blixt.llm.engine.grammar import Format, Grammar, allocate_bitmask, compile_format
from blixt.llm.errors import FormatError
from blixt.llm.model import GPT
from blixt.llm.sampling import Sampling
from blixt.llm.tokenizer import Tokenizer

FORMATS = ["email", "date", "time", "date-time", "uuid", "ipv4", "hostname", "duration", "uri"]
PATTERNS = ["^[A-Z]{3}-[0-9]{4}$", "^[^a]{2,5}x+$", "^(foo|bar[0-9]+)(,(foo|bar[0-9]+))*$", "^\\d+\\.\\d{2}$"]
NAMES = ["a", "b", "é", "long_name", "x y"]


def strings() -> st.SearchStrategy[dict[str, Any]]:
    sizes = st.tuples(st.integers(0, 12), st.integers(0, 40))
    return st.one_of(
        st.just({"type": "string"}),
        st.sampled_from(FORMATS).map(lambda kind: {"type": "string", "format": kind}),
        st.sampled_from(PATTERNS).map(lambda pattern: {"type": "string", "pattern": pattern}),
        sizes.map(lambda n: {"type": "string", "minLength": n[0], "maxLength": n[0] + n[1]}),
    )


def numbers() -> st.SearchStrategy[dict[str, Any]]:
    bounds = st.tuples(st.integers(-2000, 2000), st.integers(0, 10**6))
    return st.one_of(
        st.sampled_from([{"type": "integer"}, {"type": "number"}, {"type": "boolean"}, {"type": "null"}]),
        bounds.map(lambda b: {"type": "integer", "minimum": b[0], "maximum": b[0] + b[1]}),
        st.lists(st.sampled_from(["red", 'qu"ote', "naïve", 7, None, True]), min_size=1, unique=True).map(
            lambda values: {"enum": values}
        ),
    )


def containers(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    items = st.tuples(inner, st.integers(0, 4), st.integers(0, 9)).map(
        lambda t: {"type": "array", "items": t[0], "minItems": t[1], "maxItems": t[1] + t[2]}
    )
    properties = st.dictionaries(st.sampled_from(NAMES), inner, min_size=1)
    objects = st.tuples(properties, st.booleans(), st.randoms(use_true_random=False)).map(_object)
    return st.one_of(items, objects, st.lists(inner, min_size=2, max_size=3).map(lambda s: {"anyOf": s}))


def _object(drawn: tuple[dict[str, Any], bool, random.Random]) -> dict[str, Any]:
    properties, closed, chance = drawn
    required = [name for name in properties if chance.random() < 0.7]
    schema = {"type": "object", "properties": properties, "required": required}
    return {**schema, "additionalProperties": False} if closed else schema


SCHEMAS = st.recursive(st.one_of(strings(), numbers()), containers, max_leaves=8)


@settings(max_examples=40, deadline=None)
@given(schema=SCHEMAS, spare=st.integers(0, 60), seed=st.integers(0, 2**31))
def test_any_schema_is_kept_and_closed_at_any_limit(
    tokenizer: Tokenizer, schema: dict[str, Any], spare: int, seed: int
) -> None:
    grammar = compile_format(Format.json_schema(schema), tokenizer, VOCAB)
    assert grammar.least is not None
    text = tokenizer.decode(write(grammar, grammar.least + spare, seed))
    assert grammar.complete
    # Random bytes can be a surrogate, one character to xgrammar and three replacement characters to Python.
    value = json.loads(text.replace("\ufffd" * 3, "\ufffd"), parse_constant=pytest.fail)
    jsonschema.validate(value, schema)


TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "string", "format": "email"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["value", "children"],
        }
    },
}


@pytest.mark.parametrize("spare", [0, 1, 7, 90])
def test_a_schema_that_contains_itself_is_closed_however_deep_it_stands(
    tokenizer: Tokenizer, spare: int
) -> None:
    for seed in range(3):
        grammar = compile_format(Format.json_schema(TREE), tokenizer, VOCAB)
        text = tokenizer.decode(write(grammar, (grammar.least or 0) + spare, seed))
        jsonschema.validate(json.loads(text), TREE)


@pytest.mark.parametrize("tokens", [54, 80, 150])
def test_large_parts_and_strings_of_a_pattern_are_closed_in_time(tokenizer: Tokenizer, tokens: int) -> None:
    for seed in range(3):
        grammar = compile_format(Format.json_schema(LARGE), tokenizer, VOCAB)
        value = json.loads(tokenizer.decode(write(grammar, tokens, seed)))
        assert "@" in value["mail"]
        assert re.fullmatch("[A-Z]{3}-[0-9]{4}", value["code"])


EXPRESSIONS = ["[a-z]*!", "(é|ü)+x", "a{30}b", "b|a{300}c", "([^x]|xy)*z", "(日本|語){2,}.", r"\d{3,}(-\d+)*"]


@pytest.mark.parametrize("pattern", EXPRESSIONS)
def test_a_regex_is_matched_whole_at_any_limit(tokenizer: Tokenizer, pattern: str) -> None:
    for seed in range(4):
        grammar = compile_format(Format.regex(pattern), tokenizer, VOCAB)
        written = write(grammar, (grammar.least or 0) + 13 * seed, seed)
        assert grammar.complete
        text = b"".join(tokenizer.bytes_of(token) for token in written).decode("utf-8", "surrogatepass")
        assert re.fullmatch(pattern, text, re.DOTALL)


GRAMMARS = [
    'root ::= "(" root "+" root ")" | [1-9]+',
    'root ::= "a" root "b" | "c"*',
    'root ::= root "," item | item\nitem ::= "x" | "[" root "]"',
    'root ::= one two\none ::= "" | "1" two\ntwo ::= "" | "2" one "2"',
    'root ::= pair{2,4} "." \npair ::= [a-z] | "<" pair{3,} ">"',
]


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_the_way_to_the_end_is_known_wherever_a_text_stands(tokenizer: Tokenizer, grammar: str) -> None:
    for seed in range(4):
        state = compile_format(Format.ebnf(grammar), tokenizer, VOCAB)
        write(state, (state.least or 0) + 11 * seed, seed)
        assert state.complete


def test_what_closes_a_text_is_the_shortest_there_is(tokenizer: Tokenizer) -> None:
    state = compile_format(Format.json_schema(TREE), tokenizer, VOCAB)
    for token in tokenizer.encode('{"value": "ab@c.de", "children": [{"value": "'):
        state.accept(token, 200)
    assert re.fullmatch(r'\w@\w","children":\[\]\}\]\}', closed(state, tokenizer))


def closed(grammar: Grammar, tokenizer: Tokenizer) -> str:
    """What is written when nothing but the shortest end is left room for."""
    row, text = allocate_bitmask(1, VOCAB), list[int]()
    for left in range(grammar.least or 0, 0, -1):
        grammar.fill(row[0], left)
        words = [(row[0, at // 32] >> (at % 32)) & 1 for at in range(VOCAB)]
        text.append(grammar.accept(int(torch.tensor(words).argmax()), left))
    return tokenizer.decode(text)


def test_a_limit_that_no_answer_fits_is_refused_at_once(model: GPT, tokenizer: Tokenizer) -> None:
    engine = Engine(model, tokenizer, EngineConfig(blocks=8))
    format = Format.json_schema(TREE)
    least = compile_format(format, tokenizer, VOCAB).least
    assert least is not None
    with pytest.raises(FormatError, match=f"takes {least} tokens, and there is room for {least - 1}"):
        engine.add([5, 6], Sampling(max_tokens=least - 1, format=format))
    assert not engine.has_work
    engine.add([5, 6], Sampling(max_tokens=least, format=format, seed=1))
    updates = [update for _ in range(least) for update in engine.step()]
    assert updates[-1].finish_reason == "stop"
    jsonschema.validate(json.loads("".join(update.text for update in updates)), TREE)
