"""The engine gives the tokens of transformers without a cache, whatever runs beside a request and however."""

import random
from itertools import product
from pathlib import Path

import pytest
import torch
from tests.llm.families.cases import cases_of
from tests.llm.families.parity import loaded, reference
from torch import Tensor

from blixt.llm import GPT, Engine, EngineConfig, Sampling

PROMPTS = (9, 3, 20, 9, 17, 25, 1, 14)  # lengths; all begin alike, so that prefixes are shared
NEW = 10
WAYS = [
    EngineConfig(max_batch=1, max_tokens_per_step=7, block_size=4),
    EngineConfig(max_batch=3, max_tokens_per_step=16, block_size=8, prefix_cache=False),
    EngineConfig(max_batch=8, max_tokens_per_step=512, block_size=16),
    EngineConfig(max_batch=8, max_tokens_per_step=7, block_size=4, blocks=40),
]


def requests(known: dict[str, Tensor]) -> list[list[int]]:
    """Prompts of several lengths; the first is the one transformers continued."""
    row: list[int] = known["long"][0].tolist()
    return [row[:length] for length in PROMPTS]


def run(model: GPT, prompts: list[list[int]], way: EngineConfig, order: list[int]) -> dict[int, list[int]]:
    """All requests through one engine, arriving in some order, some of them while others run."""
    engine = Engine(model, None, way)
    sampling = Sampling(temperature=0, max_tokens=NEW, ignore_eos=True)
    waiting, found = list(order), {number: list[int]() for number in order}
    while waiting or engine.has_work:
        for number in waiting[:3]:
            engine.add(prompts[number], sampling, uid=str(number))
        del waiting[:3]
        for update in engine.step():
            assert not update.error, update.error
            found[int(update.uid)] += update.tokens
    return found


@torch.no_grad()
def assert_likeliest(model: GPT, prompt: list[int], answer: list[int]) -> None:
    """Every token is the likeliest one when all before it is computed at once, without a cache."""
    changing = any(spec.rope and spec.rope.kind in ("longrope", "dynamic") for spec in model.config.specs)
    tokens = torch.tensor([prompt + answer])
    if changing:  # the rotation depends on the length, so each token has a forward pass of its own
        ends = range(len(prompt), len(prompt) + len(answer))
        assert [int(model(tokens[:, :end])[0, -1].argmax()) for end in ends] == answer
    else:
        assert model(tokens[:, :-1])[0, len(prompt) - 1 :].argmax(-1).tolist() == answer


@pytest.mark.parametrize("case", cases_of(5))
def test_tokens_are_the_same_at_any_batch_chunk_cache_and_order(case: str, lane5: Path) -> None:
    model, known = loaded(lane5 / case), reference(lane5 / case)
    prompts, order = requests(known), list(range(len(PROMPTS)))
    first = run(model, prompts, WAYS[0], order)
    assert first[0] == known["greedy"][0, :NEW].tolist()
    for prompt, answer in zip(prompts, first.values(), strict=True):
        assert_likeliest(model, prompt, answer)
    for seed, way in enumerate(WAYS[1:]):
        random.Random(seed).shuffle(order)
        assert run(model, prompts, way, order) == first, way


@pytest.mark.parametrize("case", ["gemma3", "gpt-oss", "llama4", "deepseek-v3", "phi3-longrope"])
def test_tokens_are_the_same_in_every_combination(case: str, lane5: Path) -> None:
    model, known = loaded(lane5 / case), reference(lane5 / case)
    prompts, order = requests(known), list(range(len(PROMPTS)))
    found: list[dict[int, list[int]]] = []
    for seed, (batch, chunk, cached) in enumerate(product((1, 3, 8), (7, 16, 512), (True, False))):
        random.Random(seed).shuffle(order)
        way = EngineConfig(max_batch=batch, max_tokens_per_step=chunk, block_size=4, prefix_cache=cached)
        found.append(run(model, prompts, way, order))
    assert all(answers == found[0] for answers in found)
    assert found[0][0] == known["greedy"][0, :NEW].tolist()
