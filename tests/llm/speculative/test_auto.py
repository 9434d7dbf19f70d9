"""Guessing by default: only where it has been right lately, without a row spent on finding out."""

import random

import pytest
import torch

from blixt.llm.config import ModelConfig
from blixt.llm.engine import Engine, EngineConfig
from blixt.llm.engine.speculative_auto import MOST_ROWS, AutoProposer
from blixt.llm.model import GPT
from blixt.llm.quant import quantize
from blixt.llm.sampling import Sampling
from blixt.llm.specs import LayerSpec, MoESpec, RopeSpec


def guess(proposer: AutoProposer, tokens: list[int], limit: int = 8, uid: str = "a") -> list[int]:
    return proposer.propose_batch([(uid, tokens, limit)])[0].tokens


def small(**changes: object) -> GPT:
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - untyped in torch
    sizes = {"vocab": 64, "d": 16, "layers": 1, "heads": 2, "kv_heads": 1, "context": 256}
    return GPT(ModelConfig(**{**sizes, **changes})).eval().requires_grad_(False)  # type: ignore[arg-type]


def test_a_prompt_that_repeats_is_guessed_from_the_first_token_on() -> None:
    assert guess(AutoProposer(k=4), [1, 2, 3, 4, 5, 6] * 4) == [1, 2, 3, 4]


def test_one_recurring_run_is_not_enough_to_be_trusted() -> None:
    assert guess(AutoProposer(), [1, 2, 3, 4, 5, 9, 2, 3]) == []


def test_after_wrong_guesses_nothing_is_guessed_until_some_would_have_been_right() -> None:
    proposer, tokens = AutoProposer(k=1), [1, 2, 3] * 6
    assert guess(proposer, tokens) == [1]
    draw = random.Random(0)
    for _ in range(20):  # 1, 2 comes again and again, and something else after it each time
        tokens += [1, 2, 10 + draw.randrange(1000)]
        guess(proposer, tokens)
    assert guess(proposer, [*tokens, 1, 2]) == []
    tokens += [1, 2, 5] * 6
    assert guess(proposer, tokens[:-1]) == [5]


def test_likelier_text_is_guessed_further() -> None:
    sure, fair = [1, 2, 3, 4] * 12, [1, 2, 3, 4] * 2
    assert len(guess(AutoProposer(k=8), sure)) > len(guess(AutoProposer(k=8), fair)) > 0


def test_the_likeliest_guesses_fill_the_step_and_the_others_wait() -> None:
    sure, fair = [1, 2, 3, 4] * 12, [1, 2, 3, 4] * 3
    asked = [(str(n), fair if n % 2 else sure, 8) for n in range(40)]
    guesses = [len(p.tokens) for p in AutoProposer(k=4).propose_batch(asked)]
    assert sum(guesses) == MOST_ROWS - 40
    assert all(guesses[n] >= guesses[n + 1] for n in range(0, 40, 2))
    many = [(str(n), sure, 8) for n in range(MOST_ROWS + 6)]
    assert not any(p.tokens for p in AutoProposer().propose_batch(many))


def test_limits_are_kept_and_ended_requests_forgotten() -> None:
    proposer = AutoProposer(k=4)
    assert guess(proposer, [1, 2] * 9, limit=1) == [1]
    assert guess(proposer, [1, 2] * 9, limit=0) == []
    proposer.forget("a")
    assert guess(proposer, [3, 4, 5]) == []


def test_random_text_is_hardly_ever_guessed() -> None:
    draw, proposer, guessed = random.Random(1), AutoProposer(), 0
    tokens = [draw.randrange(50) for _ in range(20)]
    for _ in range(1000):
        guessed += len(guess(proposer, tokens))
        tokens.append(draw.randrange(50))
    assert guessed < 10


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0, max_tokens=60, ignore_eos=True),
        Sampling(temperature=1, seed=3, max_tokens=60, ignore_eos=True),
    ],
    ids=["greedy", "sampled"],
)
def test_by_default_the_tokens_are_those_without_guesses_in_fewer_steps(sampling: Sampling) -> None:
    model, found, steps = small(), dict[str, list[list[int]]](), dict[str, int]()
    for parameter in model.parameters():
        parameter.mul_(20)  # so that even drawn text repeats
    for speculate in ("auto", "off"):
        engine = Engine(model, None, EngineConfig(speculate=speculate))
        answers: dict[str, list[int]] = {}
        for number in range(5):
            engine.add([number, 5, 6, 7] * 4, sampling, uid=str(number))
        while engine.has_work:
            for update in engine.step():
                answers.setdefault(update.uid, []).extend(update.tokens)
        found[speculate], steps[speculate] = [answers[str(n)] for n in range(5)], engine.stats().steps
    assert found["auto"] == found["off"]
    assert steps["auto"] < steps["off"]


@pytest.mark.parametrize(
    ("model", "config"),
    [
        (small(), EngineConfig(speculate="off")),
        (small(), EngineConfig(speculate=None)),
        (small(), EngineConfig(batch_invariant=True)),
        (small().to(torch.bfloat16), EngineConfig()),
        (quantize(small(d=64), "int8"), EngineConfig()),
        (
            small(
                moe=MoESpec(experts=4, top_k=2, d_ff=16),
                layer_specs=(LayerSpec(rope=RopeSpec(), mlp="moe"),),
            ),
            EngineConfig(),
        ),
    ],
    ids=["off", "none", "invariant", "half", "quantised", "experts"],
)
def test_where_it_was_not_seen_to_pay_nothing_is_guessed(model: GPT, config: EngineConfig) -> None:
    assert Engine(model, None, config).stats().speculation is None
    assert Engine(small(), None, EngineConfig()).stats().speculation is not None
