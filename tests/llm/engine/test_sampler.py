"""The vectorised sampler against one row at a time, by the definitions."""

import math
from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from blixt.llm.engine.sampler import FEW, Row, edit, logprobs, sample, threshold, uniform
from blixt.llm.errors import PromptError
from blixt.llm.sampling import Sampling, make_sampling

VOCAB = 12

samplings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.5]),
    top_k=st.integers(0, VOCAB + 2),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.2, 0.7]),
    presence_penalty=st.sampled_from([0.0, 1.5]),
    frequency_penalty=st.sampled_from([0.0, -1.0, 0.5]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    logit_bias=st.dictionaries(st.integers(0, VOCAB - 1), st.sampled_from([-100.0, 2.0]), max_size=2),
    min_tokens=st.integers(0, 3),
)
histories = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=9)
rows = st.builds(
    lambda sampling, tokens, seed: Row(sampling, seed, max(0, len(tokens) - 3), tokens, 3, frozenset({1})),
    samplings,
    histories,
    st.integers(0, 1000),
)
batches = st.lists(rows, min_size=1, max_size=5)


def some_logits(count: int, vocab: int = VOCAB) -> Tensor:
    return torch.randn(count, vocab, generator=torch.Generator().manual_seed(count)) * 3


def edited(logits: Sequence[float], row: Row) -> list[float]:
    """Bias, penalties, `min_tokens`, by their definitions."""
    scores, options = list(logits), row.sampling
    answer = row.tokens[row.prompt_tokens :]
    for token in range(len(scores)):
        if token in row.tokens:
            factor = options.repetition_penalty
            scores[token] = scores[token] / factor if scores[token] > 0 else scores[token] * factor
        scores[token] -= options.frequency_penalty * answer.count(token)
        scores[token] -= options.presence_penalty * (token in answer)
        scores[token] += (options.logit_bias or {}).get(token, 0)
        if token in row.stop_ids and row.place < options.min_tokens:
            scores[token] = -math.inf
    return scores


def kept(scores: Sequence[float], options: Sampling) -> set[int]:
    """Ids that survive the filters, by their definitions; equal logits stay or go together."""
    scaled = [score / options.temperature for score in scores]
    order = sorted(range(len(scaled)), key=lambda i: -scaled[i])
    if options.top_k:
        order = order[: options.top_k]
    total = sum(math.exp(scaled[i]) for i in order)
    chosen: list[int] = []
    mass = 0.0
    for i in order:
        if options.top_p == 1 or mass < options.top_p - 1e-6:
            chosen.append(i)
        mass += math.exp(scaled[i]) / total
    best = max(scaled)
    return {i for i in chosen if math.exp(scaled[i] - best) >= options.min_p - 1e-6}


@settings(max_examples=100, deadline=None)
@given(batches)
def test_penalties_bias_and_min_tokens_are_what_they_are_defined_to_be(batch: list[Row]) -> None:
    logits = some_logits(len(batch))
    expected = [edited(line, row) for line, row in zip(logits.tolist(), batch, strict=True)]
    edit(logits, batch)
    torch.testing.assert_close(logits, torch.tensor(expected))


@settings(max_examples=100, deadline=None)
@given(batches)
def test_filters_keep_what_their_definitions_keep(batch: list[Row]) -> None:
    batch = [row for row in batch if row.sampling.temperature]
    if not batch:
        return
    logits = some_logits(len(batch))
    scaled = logits / torch.tensor([[row.sampling.temperature] for row in batch])
    found = scaled >= threshold(scaled, batch)
    for line, scores, row in zip(found, logits.tolist(), batch, strict=True):
        assert set(line.nonzero()[:, 0].tolist()) == kept(scores, row.sampling)


@settings(max_examples=50, deadline=None)
@given(batches)
def test_a_row_draws_the_same_alone_and_in_company(batch: list[Row]) -> None:
    logits = some_logits(len(batch))
    together = sample(logits.clone(), batch)
    assert together == [sample(logits[i : i + 1].clone(), [row])[0] for i, row in enumerate(batch)]


def test_temperature_zero_takes_the_likeliest() -> None:
    logits = some_logits(4)
    assert (
        sample(logits.clone(), [Row(Sampling(temperature=0), 0, 0, [1], 1)] * 4) == logits.argmax(-1).tolist()
    )


def test_draws_follow_the_probabilities() -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))
    count = 4000
    drawn = Counter(sample(logits.repeat(count, 1), [Row(Sampling(), n, 0, [0], 1) for n in range(count)]))
    for token, probability in enumerate([0.5, 0.3, 0.15, 0.05]):
        spread = math.sqrt(probability * (1 - probability) / count)
        assert abs(drawn[token] / count - probability) < 4 * spread


def test_top_k_and_top_p_draw_only_from_the_likeliest() -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05])).repeat(200, 1)

    def drawn(sampling: Sampling) -> set[int]:
        return set(sample(logits.clone(), [Row(sampling, n, 0, [0], 1) for n in range(200)]))

    assert drawn(Sampling(top_k=2)) == {0, 1}
    assert drawn(Sampling(top_p=0.75)) == {0, 1}
    assert drawn(Sampling(top_p=0.01)) == {0}


def test_a_wide_nucleus_needs_more_than_the_few_likeliest_and_is_right_all_the_same() -> None:
    logits = torch.zeros(2, 4 * FEW)
    logits[:, 7] = 1.0
    keeps = logits >= threshold(logits, [Row(Sampling(top_p=p), 0, 0, [0], 1) for p in (0.9, 1e-4)])
    assert keeps.sum(-1).tolist() == [4 * FEW, 1]


def test_the_random_number_depends_on_seed_and_place_and_is_even() -> None:
    numbers = [uniform(seed, place) for seed in range(100) for place in range(100)]
    assert len(set(numbers)) == 10_000
    assert all(0 <= number < 1 for number in numbers)
    assert abs(sum(numbers) / 10_000 - 0.5) < 0.02


def test_logprobs_are_the_log_softmax_and_name_the_likeliest() -> None:
    logits = some_logits(2)
    expected = logits.log_softmax(-1)
    first, second = logprobs(logits, [3, 4], [2, 0])
    assert (first.token, second.token, second.top) == (3, 4, ())
    assert first.logprob == pytest.approx(float(expected[0, 3]))
    assert [token for token, _ in first.top] == expected[0].topk(2).indices.tolist()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"max_tokens": 0}, "max_tokens=0"),
        ({"temperature": -1}, "temperature=-1"),
        ({"temperature": math.nan}, "temperature=nan"),
        ({"top_p": 0}, "top_p=0"),
        ({"top_k": -2}, "top_k=-2"),
        ({"min_p": 2}, "min_p=2"),
        ({"presence_penalty": 3}, "presence_penalty=3"),
        ({"repetition_penalty": 0}, "repetition_penalty=0"),
        ({"logprobs": 1000}, "logprobs=1000"),
        ({"min_tokens": 4, "max_tokens": 3}, "min_tokens=4"),
        ({"n": 0}, "n=0"),
        ({"stop": ("",)}, "empty text"),
    ],
)
def test_impossible_sampling_names_the_field(fields: dict[str, object], sentence: str) -> None:
    with pytest.raises(PromptError, match=sentence):
        make_sampling(**fields)
