"""The engine with guesses against the engine without: the same tokens, in fewer steps."""

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from blixt.llm.config import ModelConfig
from blixt.llm.engine import Engine, EngineConfig
from blixt.llm.engine.grammar import Format
from blixt.llm.engine.speculative import Asked, NgramProposer, Proposal, Proposer
from blixt.llm.engine.speculative_draft import DraftProposer
from blixt.llm.model import GPT
from blixt.llm.parallel import compile_blocks
from blixt.llm.sampling import Sampling
from blixt.llm.tokenizer import Tokenizer

PROMPTS = [[5, 6, 7, 8] * 4, list(range(20)), [3, 1, 4, 1, 5, 9, 2, 6], [9] * 12, [40, 41, 40, 41, 40]]


class Oracle:
    """Knows what comes, but errs at every third guess."""

    def __init__(self, answers: dict[int, list[int]]) -> None:
        self.answers, self.guesses = answers, 0

    def propose_batch(self, asked: Sequence[Asked]) -> list[Proposal]:
        return [Proposal(self.guess(tokens, limit)) for _, tokens, limit in asked]

    def guess(self, tokens: Sequence[int], limit: int) -> list[int]:
        whole = next(whole for whole in self.answers.values() if list(whole[: len(tokens)]) == list(tokens))
        right = whole[len(tokens) : len(tokens) + min(limit, 4)]
        wrong = []
        for token in right:
            self.guesses += 1
            wrong.append(token if self.guesses % 3 else (token + 1) % 512)
        return wrong

    def forget(self, uid: str) -> None:
        return None


def run(
    model: GPT,
    sampling: Sampling,
    speculate: str | Proposer | None,
    tokenizer: Tokenizer | None = None,
    **config: int,
) -> tuple[dict[int, list[int]], Engine]:
    engine = Engine(model, tokenizer, EngineConfig(speculate=speculate, block_size=8, **config))
    for number, prompt in enumerate(PROMPTS):
        engine.add(prompt, sampling, uid=str(number))
    found: dict[int, list[int]] = {number: list(prompt) for number, prompt in enumerate(PROMPTS)}
    while engine.has_work:
        for update in engine.step():
            assert not update.error, update.error
            found[int(update.uid)] += update.tokens
    return found, engine


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0, max_tokens=24, ignore_eos=True),
        Sampling(temperature=3, seed=7, max_tokens=24),
        Sampling(temperature=2, seed=3, top_k=20, top_p=0.9, max_tokens=24, repetition_penalty=1.3),
    ],
    ids=["greedy", "sampled", "filtered"],
)
@pytest.mark.parametrize("kind", ["ngram", "oracle", "same model", "other model"])
def test_tokens_are_the_same_with_guesses_and_without(model: GPT, sampling: Sampling, kind: str) -> None:
    wanted, _ = run(model, sampling, None)
    proposer: str | Proposer = "ngram"
    if kind == "oracle":
        proposer = Oracle(wanted)
    elif kind != "ngram":
        draft = model if kind == "same model" else small(model.config.vocab, seed=5)
        proposer = DraftProposer(draft, k=3)
    found, engine = run(model, sampling, proposer)
    assert found == wanted
    stats = engine.stats().speculation
    assert stats is not None
    assert 0 <= stats.accepted <= stats.proposed


def test_right_guesses_save_steps(model: GPT) -> None:
    sampling = Sampling(temperature=0, max_tokens=24, ignore_eos=True)
    _, slow = run(model, sampling, None)
    _, fast = run(model, sampling, DraftProposer(model, k=4))
    assert fast.stats().steps < slow.stats().steps / 2
    stats = fast.stats().speculation
    assert stats is not None
    assert stats.rate > 0.99
    assert stats.tokens_per_step > 4


@pytest.mark.parametrize("blocks", [12, 20])
def test_guesses_survive_preemption(model: GPT, blocks: int) -> None:
    sampling = Sampling(temperature=0, max_tokens=30, ignore_eos=True)
    wanted, _ = run(model, sampling, None)
    found, engine = run(model, sampling, Oracle(wanted), blocks=blocks)
    assert found == wanted
    assert engine.stats().blocks_used == 0


def test_nobody_loses_his_blocks_to_a_guess(model: GPT) -> None:
    """Both requests fit, to the last block; with guesses behind them they would not."""
    sampling = Sampling(temperature=0, max_tokens=16, ignore_eos=True)
    preemptions = list[int]()
    for speculate in ("off", "ngram"):
        engine = Engine(model, None, EngineConfig(speculate=speculate, block_size=4, blocks=16))
        for number in (5, 6):
            engine.add([number, 7, 8, 9] * 4, sampling)
        while engine.has_work:
            engine.step()
        preemptions.append(engine.stats().preemptions)
    assert preemptions == [0, 0]


def answers_by_default(
    model: GPT, tokenizer: Tokenizer, sampling: Sampling, speculate: str
) -> tuple[dict[str, tuple[str, list[int], str, list[tuple[int, ...]]]], int]:
    """Texts, tokens, ends and ranked alternatives of prompts that can be guessed; and the steps it took."""
    engine = Engine(model, tokenizer, EngineConfig(speculate=speculate))
    for number, prompt in enumerate(PROMPTS):
        engine.add(prompt, sampling, uid=str(number))
    found: dict[str, tuple[str, list[int], str, list[tuple[int, ...]]]] = {}
    while engine.has_work:
        for update in engine.step():
            assert not update.error, update.error
            text, tokens, end, ranks = found.get(update.uid, ("", [], "", []))
            more = [tuple(token for token, _ in one.top) for one in update.logprobs]
            found[update.uid] = (
                text + update.text, tokens + update.tokens, update.finish_reason or end, ranks + more
            )  # fmt: skip
    return found, engine.stats().steps


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0, "logprobs": 3},
        {"temperature": 0, "stop": ("ab", "e", "th")},
        {"temperature": 1, "seed": 2, "n": 2, "min_tokens": 9},
        {"temperature": 1, "seed": 4, "frequency_penalty": 0.4, "presence_penalty": 0.2, "min_p": 0.01},
        {"temperature": 1, "seed": 5, "format": Format.regex("[ab]{9,}")},
    ],
    ids=["logprobs", "stops", "several", "penalties", "format"],
)
def test_everything_asked_for_is_the_same_with_the_default_guesses(
    model: GPT, tokenizer: Tokenizer, options: dict[str, Any]
) -> None:
    sampling = Sampling(max_tokens=40, **options)
    assert (
        answers_by_default(model, tokenizer, sampling, "auto")[0]
        == (answers_by_default(model, tokenizer, sampling, "off")[0])
    )


def test_compiled_blocks_generate_the_same(model: GPT) -> None:
    sampling = Sampling(temperature=0, max_tokens=6, ignore_eos=True)
    plain = small(model.config.vocab)
    compiled = copy.deepcopy(plain)
    compile_blocks(compiled, dynamic=True, backend="eager")
    assert run(compiled, sampling, "off")[0] == run(plain, sampling, "off")[0]


def test_a_format_is_kept_with_guesses_as_without(model: GPT, tokenizer: Tokenizer) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "array", "items": {"type": "integer"}}},
        "required": ["a", "b"],
    }
    sampling = Sampling(temperature=3, seed=1, max_tokens=40, format=Format.json_schema(schema))
    wanted, _ = run(model, sampling, None, tokenizer)
    for proposer in (NgramProposer(), Oracle(wanted)):
        found, _ = run(model, sampling, proposer, tokenizer)
        assert found == wanted


class Stubborn:
    """Always guesses the same tokens."""

    def propose_batch(self, asked: Sequence[Asked]) -> list[Proposal]:
        return [Proposal([2, 5][:limit]) for _, _, limit in asked]

    def forget(self, uid: str) -> None:
        return None


def small(vocab: int, seed: int = 0, width: int = 16) -> GPT:
    torch.manual_seed(seed)
    config = ModelConfig(vocab=vocab, d=width, layers=1, heads=2, kv_heads=1, context=64)
    return GPT(config).eval().requires_grad_(False)


def test_sampled_tokens_have_the_models_distribution_though_guessed() -> None:
    # Chi-square over all pairs of the two guessed places; fresh seeds, so no coupling with a run without
    # guesses.
    model, count = small(7, seed=2), 3000
    for parameter in model.parameters():
        parameter.mul_(6)
    engine = Engine(model, None, EngineConfig(speculate=Stubborn(), max_batch=250, max_tokens_per_step=4000))
    for seed in range(count):
        engine.add([1, 3], Sampling(max_tokens=3, temperature=1.0, seed=seed), uid=str(seed))
    found: dict[str, list[int]] = {}
    while engine.has_work:
        for update in engine.step():
            found.setdefault(update.uid, []).extend(update.tokens)
    counts = Counter(tuple(tokens) for tokens in found.values())
    statistic, cells = 0.0, 0
    for first in range(7):
        for second in range(7):
            sequence = [1, 3, first, second]
            log = model(torch.tensor([sequence]))[0].log_softmax(-1)
            for third in range(7):
                expected = count * float((log[1, first] + log[2, second] + log[3, third]).exp())
                if expected >= 5:
                    statistic += (counts[(first, second, third)] - expected) ** 2 / expected
                    cells += 1
    # A chi-square variable with n degrees has mean n and variance 2n: six deviations above is not chance.
    assert cells > 20
    assert statistic < cells + 6 * (2 * cells) ** 0.5
    stats = engine.stats().speculation
    assert stats is not None
    assert 0 < stats.rate < 0.9
