"""Schemas that cannot be kept are refused with the place; the others are bounded."""

from typing import Any

import pytest

from blixt.llm.engine.grammar import Format, compile_format
from blixt.llm.engine.grammar_schema import prepare_schema
from blixt.llm.errors import FormatError
from blixt.llm.tokenizer import Tokenizer

INTEGER = {"type": "integer"}


def nested(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"ok": INTEGER, "bad": schema}, "required": ["bad"]}


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        (nested({"type": "foo"}), "at #/properties/bad: .*foo"),
        (nested({"$ref": "#/$defs/nowhere"}), r"at #/properties/bad: .*\$defs"),
        (
            nested({"type": "array", "items": {"type": "string", "pattern": "(a"}}),
            "at #/properties/bad/items",
        ),
        (nested({"type": "integer", "minimum": 5, "maximum": 3}), "at #/properties/bad: .*minimum"),
        (nested({"not": INTEGER}), "'not' at #/properties/bad"),
        (nested({"type": "array", "items": INTEGER, "uniqueItems": True}), "'uniqueItems' at"),
        (nested({"$ref": "http://example.com/x"}), "refers to 'http://example.com/x'"),
        (nested({"type": "string", "pattern": "a+", "maxLength": 3}), "beside 'pattern'"),
        (nested({"type": "object", "properties": {}, "required": ["z"]}), "requires 'z' at #/properties/bad"),
        (nested({"allOf": [INTEGER, INTEGER]}), "'allOf' at #/properties/bad"),
        (nested({"anyOf": [INTEGER], "minimum": 3}), "'minimum' beside 'anyOf'"),
    ],
)
def test_a_schema_that_cannot_be_kept_is_refused_with_its_place(
    tokenizer: Tokenizer, schema: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(FormatError, match=sentence):
        compile_format(Format.json_schema(schema), tokenizer, 600)


@pytest.mark.parametrize(
    ("format", "sentence"),
    [
        (Format.regex("(a"), "the regex cannot be compiled: .*position 3"),
        (Format.ebnf("root ::= x"), "the ebnf cannot be compiled: .*line 1.*not defined"),
    ],
)
def test_other_formats_that_do_not_compile_say_why(
    tokenizer: Tokenizer, format: Format, sentence: str
) -> None:
    with pytest.raises(FormatError, match=sentence):
        compile_format(format, tokenizer, 600)


def test_a_schema_that_is_not_json_is_refused() -> None:
    with pytest.raises(FormatError, match="not JSON"):
        Format.json_schema('{"type":')


def test_a_choice_needs_texts() -> None:
    with pytest.raises(FormatError, match="at least one text"):
        Format.choice([])


def test_integers_without_limits_get_those_of_64_bits() -> None:
    bounded = prepare_schema({"type": "array", "items": {"type": "integer", "minimum": 3}})
    assert bounded["items"] == {"type": "integer", "minimum": 3, "maximum": 2**63 - 1}
    assert prepare_schema({"enum": [{"type": "integer"}]}) == {"enum": [{"type": "integer"}]}
