"""Guesses that are drawn: what comes out has the model's distribution, and a seed makes it repeatable."""

from collections import Counter

import pytest
import torch
from torch import Tensor

from blixt.llm.config import ModelConfig
from blixt.llm.engine import Engine, EngineConfig
from blixt.llm.engine.sampler import pick, uniform
from blixt.llm.engine.speculative import verify
from blixt.llm.engine.speculative_draft import DraftProposer
from blixt.llm.model import GPT
from blixt.llm.sampling import Sampling

VOCAB = 5


def model(seed: int, layers: int) -> GPT:
    torch.manual_seed(seed)
    made = GPT(
        ModelConfig(vocab=VOCAB, d=16, layers=layers, heads=2, kv_heads=1, context=32, tie=False)
    ).eval()
    for parameter in made.requires_grad_(False).parameters():
        if parameter.dim() > 1:
            parameter.mul_(6)
    return made


def assert_drawn_from(counts: Counter[tuple[int, ...]], expected: dict[tuple[int, ...], float]) -> None:
    """Pearson's test: the statistic of as many cells exceeds this bound once in some ten thousand runs."""
    total = sum(counts.values())
    assert counts.keys() <= expected.keys()
    statistic = sum((counts[key] - total * p) ** 2 / (total * p) for key, p in expected.items() if p > 0)
    freedom = sum(p > 0 for p in expected.values()) - 1
    assert statistic < freedom + 4 * (2 * freedom) ** 0.5 + 8, (statistic, freedom)


def test_whatever_guessed_the_result_has_the_models_distribution() -> None:
    torch.manual_seed(0)
    target = torch.randn(3, VOCAB, dtype=torch.float64).mul_(1.5).softmax(-1)
    source = torch.randn(2, VOCAB, dtype=torch.float64).mul_(1.5).softmax(-1)
    source[0, 1] = 0  # what the guesser never says must come all the same
    source[0] /= source[0].sum()
    first, second = Counter[tuple[int, ...]](), Counter[tuple[int, ...]]()
    for seed in range(20_000):
        draft = [pick(source[i], uniform(seed, i, "guess")) for i in range(2)]
        tokens = verify(target, draft, source, seed, 0)
        first[tokens[0],] += 1
        if len(tokens) > 1:  # behind an accepted guess
            second[tokens[1],] += 1
    assert_drawn_from(first, {(i,): float(p) for i, p in enumerate(target[0])})
    assert_drawn_from(second, {(i,): float(p) for i, p in enumerate(target[1])})


def test_a_guess_of_the_models_own_distribution_is_always_right() -> None:
    target = torch.rand(4, VOCAB, dtype=torch.float64).softmax(-1)
    for seed in range(50):
        assert verify(target, [1, 2, 3], target[:3], seed, 0)[:3] == [1, 2, 3]


def exact(target: GPT, prompt: list[int], count: int, sampling: Sampling) -> dict[tuple[int, ...], float]:
    """The probability of every answer of `count` tokens."""
    found: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(count):
        longer: dict[tuple[int, ...], float] = {}
        for answer, before in found.items():
            logits: Tensor = target(torch.tensor([prompt + list(answer)]))[0, -1] / sampling.temperature
            if sampling.top_k:
                logits[logits < logits.topk(sampling.top_k).values[-1]] = float("-inf")
            for token, p in enumerate(logits.softmax(-1).tolist()):
                longer[(*answer, token)] = before * p
        found = longer
    return found


@pytest.mark.parametrize("top_k", [0, 3])
def test_answers_with_drawn_guesses_are_as_likely_as_the_model_says(top_k: int) -> None:
    target, draft = model(0, 2), model(1, 1)
    proposer = DraftProposer(draft, k=3, sampled=True)
    engine = Engine(target, None, EngineConfig(max_batch=64, block_size=8, blocks=600, speculate=proposer))
    sampling = Sampling(temperature=1.3, top_k=top_k, max_tokens=3, ignore_eos=True, seed=5, n=2500)
    engine.add([1, 2, 3], sampling)
    answers: dict[str, list[int]] = {}
    while engine.has_work:
        for update in engine.step():
            answers.setdefault(update.uid, []).extend(update.tokens)
    stats = engine.stats().speculation
    assert stats is not None
    assert 0 < stats.accepted < stats.proposed
    counts = Counter(tuple(answer) for answer in answers.values())
    likely = {key: p for key, p in exact(target, [1, 2, 3], 3, sampling).items() if p > 0}
    assert_drawn_from(counts, likely)


def test_a_seed_makes_drawn_guesses_repeatable_in_any_company() -> None:
    def answers(batch: int) -> list[list[int]]:
        proposer = DraftProposer(model(1, 1), k=3, sampled=True)
        engine = Engine(model(0, 2), None, EngineConfig(max_batch=batch, block_size=8, speculate=proposer))
        found: dict[str, list[int]] = {str(n): [] for n in range(5)}
        for n in range(5):
            engine.add([1, n], Sampling(temperature=1.0, max_tokens=9, ignore_eos=True, seed=n), uid=str(n))
        while engine.has_work:
            for update in engine.step():
                found[update.uid] += update.tokens
        return list(found.values())

    assert answers(1) == answers(5)


def test_a_greedy_request_is_answered_as_without_guessing() -> None:
    def answer(proposer: DraftProposer | None) -> list[int]:
        engine = Engine(model(0, 2), None, EngineConfig(block_size=8, speculate=proposer))
        engine.add([1, 2], Sampling(temperature=0, max_tokens=12, ignore_eos=True))
        found: list[int] = []
        while engine.has_work:
            found += [token for update in engine.step() for token in update.tokens]
        return found

    assert answer(DraftProposer(model(1, 1), sampled=True)) == answer(None)
