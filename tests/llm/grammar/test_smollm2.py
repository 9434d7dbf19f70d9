"""A real model under schemas: what it writes parses, also when there is hardly room for it."""

import json

import pytest
from tests.llm.smollm2 import smollm2_dir

from blixt.llm.api import LLM
from blixt.llm.engine.grammar import Format

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "hobbies": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "age", "hobbies"],
}


@pytest.fixture(scope="module")
def llm() -> LLM:
    return LLM.load(smollm2_dir(), context=256, max_batch=8)


@pytest.mark.parametrize(("max_tokens", "temperature"), [(16, 0.0), (24, 1.0)])
def test_every_answer_fits_the_schema_though_the_limit_is_near(
    llm: LLM, max_tokens: int, temperature: float
) -> None:
    asked = ["Describe a person as JSON.", "Invent a pirate, as JSON.", "Name your best friend."]
    chats = [[{"role": "user", "content": text}] for text in asked]
    format = Format.json_schema(SCHEMA)
    for answer in llm.chat(chats, max_tokens=max_tokens, temperature=temperature, seed=1, format=format):
        value = json.loads(answer.text)
        assert list(value) == ["name", "age", "hobbies"]
        assert isinstance(value["age"], int)
        assert answer.finish_reason == "stop"


def test_a_choice_is_made_and_ends_at_once(llm: LLM) -> None:
    answer = llm.generate(
        "The capital of France is", format=Format.choice([" Paris", " Rome"]), temperature=0
    )
    assert (answer.text, answer.finish_reason) == (" Paris", "stop")
