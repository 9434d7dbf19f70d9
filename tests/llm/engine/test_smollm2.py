"""The engine on a real chat model."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.llm.engine.test_invariance import Watched, generate, rows_are_alike
from tests.llm.smollm2 import CONTINUATIONS, smollm2_dir

from blixt.llm.api import LLM
from blixt.llm.engine import Engine, EngineConfig


@pytest.fixture(scope="module")
def smollm2() -> LLM:
    torch.set_num_threads(1)
    return LLM.load(smollm2_dir(), context=512)


def test_it_continues_as_it_should_alone_and_together(smollm2: LLM) -> None:
    prompts = list(CONTINUATIONS)
    together = smollm2.generate(prompts, temperature=0, max_tokens=16)
    assert [c.text for c in together] == list(CONTINUATIONS.values())
    alone = smollm2.generate(prompts[0], temperature=0, max_tokens=16)
    assert alone.text == CONTINUATIONS[prompts[0]]


@pytest.fixture(scope="module")
def questions(smollm2: LLM) -> list[list[int]]:
    stem = "You are a helpful assistant who answers in one short sentence. Question: "
    return [smollm2.tokenizer.encode(stem + q) for q in ("Why is the sky blue?", "Who wrote Hamlet?", "2+2?")]


@pytest.fixture(scope="module")
def expected(smollm2: LLM, questions: list[list[int]]) -> list[list[int]]:
    return generate(smollm2.engine, questions, 6)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_batch": 1, "prefix_cache": False},
        {"max_batch": 2, "max_tokens_per_step": 11, "block_size": 8},
        {"batch_invariant": True},
    ],
    ids=str,
)
def test_its_tokens_do_not_depend_on_the_engines_settings(
    smollm2: LLM, questions: list[list[int]], expected: list[list[int]], settings: dict[str, Any]
) -> None:
    engine = Engine(smollm2.model, None, EngineConfig(context=512, **settings))
    assert generate(engine, questions, 6, late=1) == expected


@pytest.mark.skipif(not rows_are_alike(), reason="this machine's BLAS rounds a row by its neighbours")
def test_its_bits_do_not_depend_on_company_when_that_is_asked_for(smollm2: LLM) -> None:
    config = EngineConfig(batch_invariant=True, context=512, max_tokens_per_step=2048)
    prompts = [smollm2.tokenizer.encode(prompt) for prompt in CONTINUATIONS]
    alone = Watched(smollm2.model, None, replace(config, max_batch=1))
    expected = alone.watch()
    generate(alone, prompts, 3)
    crowd = Watched(smollm2.model, None, config)
    seen = crowd.watch()
    generate(crowd, prompts, 3, late=1)
    for uid, rows in expected.items():
        assert all(torch.equal(a, b) for a, b in zip(rows, seen[uid], strict=True))


def test_a_conversation_goes_through_its_chat_template(smollm2: LLM) -> None:
    answer = smollm2.chat(
        [{"role": "user", "content": "What is the capital of France? Answer with one word."}],
        temperature=0,
        max_tokens=12,
    )
    assert "Paris" in answer.text
    assert answer.finish_reason == "stop"


def test_emoji_and_cjk_stream_as_they_come_out_whole(smollm2: LLM) -> None:
    prompt = "🎉 日本語 naïve 🎉 日本語 naïve 🎉"
    pieces = list(smollm2.stream(prompt, temperature=0, max_tokens=16))
    whole = smollm2.generate(prompt, temperature=0, max_tokens=16)
    assert "".join(pieces) == whole.text == smollm2.tokenizer.decode(whole.tokens)
    assert all("\ufffd" not in piece for piece in pieces[:-1])
