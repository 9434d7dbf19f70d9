"""Real tokenizers give the ids and the text that transformers gives. It is the oracle, and only here."""

import random
from functools import cache
from pathlib import Path

import pytest
from tests.llm.chat.real_tokenizers import NAMES, real_tokenizer
from tests.llm.chat.test_tokenizer_files import TEXTS
from transformers import AutoTokenizer

from blixt.llm.tokenizer import Tokenizer
from blixt.llm.tokenizer_gguf import metadata_of, tokenizer_of

each = pytest.mark.parametrize("name", NAMES)


@cache
def ours(name: str) -> Tokenizer:
    return Tokenizer.load(real_tokenizer(name))


@cache
def theirs(name: str):
    return AutoTokenizer.from_pretrained(real_tokenizer(name))


@each
def test_ids_and_text_equal_transformers(name: str) -> None:
    for text in TEXTS:
        ids = theirs(name).encode(text)
        assert ours(name).encode(text) == ids, text
        assert ours(name).encode(text, bos=False) == theirs(name).encode(text, add_special_tokens=False)
        for skip in (True, False):
            wanted = theirs(name).decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False)
            assert ours(name).decode(ids, skip) == wanted
    assert ours(name).end == theirs(name).eos_token_id
    assert ours(name).bos == theirs(name).bos_token_id


@each
def test_random_tokens_stream_as_they_decode(name: str) -> None:
    draw = random.Random(0)
    for _ in range(200):
        ids = [draw.randrange(len(ours(name))) for _ in range(draw.randrange(12))]
        for skip in (True, False):
            assert "".join(ours(name).stream(ids, skip)) == ours(name).decode(ids, skip)


def test_gguf_metadata_keeps_the_ids() -> None:
    name = "qwen3"
    inner, facts = tokenizer_of(metadata_of(ours(name)), Path(name))
    again = Tokenizer(inner, facts)
    for text in TEXTS:
        assert again.encode(text) == ours(name).encode(text), text
    assert (again.bos, again.eos) == (ours(name).bos, ours(name).eos)
