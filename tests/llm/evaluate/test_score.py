"""Likelihoods and perplexity against the model's plain forward."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blixt.llm.errors import EvaluationError
from blixt.llm.evaluate import Span, perplexity, score, windows
from blixt.llm.model import GPT


def logprobs(model: GPT, tokens: list[int]) -> list[float]:
    """Of each token but the first, from one forward of the whole."""
    logits = model(torch.tensor([tokens]))[0].log_softmax(-1)
    return [float(logits[at, token]) for at, token in enumerate(tokens[1:])]


@pytest.mark.parametrize("batch_tokens", [1, 16, 1000])
def test_scores_are_sums_of_the_plain_forwards_logprobs(model: GPT, batch_tokens: int) -> None:
    sequences = [list(range(3, 20)), [7] * 9, [1, 2], list(range(60, 20, -1))]
    spans = [Span(tokens, scored) for tokens, scored in zip(sequences, (5, 8, 1, 39), strict=True)]
    for found, span in zip(score(model, spans, batch_tokens=batch_tokens), spans, strict=True):
        wanted = logprobs(model, list(span.tokens))[-span.scored :]
        assert found.logprob == pytest.approx(sum(wanted), rel=1e-4)
        assert found.tokens == span.scored


def test_greedy_says_whether_every_judged_token_was_the_likeliest(model: GPT) -> None:
    tokens = [5, 6, 7]
    for _ in range(4):
        tokens.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
    assert score(model, [Span(tokens, 4)])[0].greedy
    assert not score(model, [Span([*tokens[:-1], (tokens[-1] + 1) % 512], 4)])[0].greedy


def test_a_span_that_cannot_be_judged_is_refused(model: GPT) -> None:
    with pytest.raises(EvaluationError, match="2 of 2 tokens"):
        score(model, [Span([1, 2], 2)])
    with pytest.raises(EvaluationError, match="does not fit the model's context of 64"):
        score(model, [Span([1] * 66, 3)])


@given(length=st.integers(0, 200), window=st.integers(1, 40), part=st.integers(1, 40))
def test_windows_judge_every_token_but_the_first_once(length: int, window: int, part: int) -> None:
    document = list(range(length))
    judged = [
        token
        for span in windows(document, window, min(part, window))
        for token in span.tokens[-span.scored :]
    ]
    assert judged == document[1:]
    assert all(len(span.tokens) <= window + 1 for span in windows(document, window, min(part, window)))


def test_perplexity_of_short_documents_is_that_of_the_plain_forward(model: GPT) -> None:
    documents = [list(range(3, 40)), [9, 8, 7, 6]]
    wanted = [value for tokens in documents for value in logprobs(model, tokens)]
    found = perplexity(model, documents)
    assert found.tokens == len(wanted)
    assert found.perplexity == pytest.approx(math.exp(-sum(wanted) / len(wanted)), rel=1e-4)
    assert found.bits_per_byte(100) == pytest.approx(-sum(wanted) / math.log(2) / 100, rel=1e-4)


def test_a_long_document_is_judged_in_windows_with_a_past(model: GPT) -> None:
    document = torch.randint(512, (150,), generator=torch.Generator().manual_seed(0)).tolist()
    wanted = logprobs(model, document[:33])
    for judged in range(33, 150, 8):
        end = min(150, judged + 8)
        wanted += logprobs(model, document[end - 33 : end])[-(end - judged) :]
    found = perplexity(model, [document], window=32, stride=8)
    assert found.logprob == pytest.approx(sum(wanted), rel=1e-4)


def test_the_same_documents_give_the_same_numbers(model: GPT) -> None:
    documents = [list(range(60)), list(range(100, 130))]
    assert perplexity(model, documents) == perplexity(model, documents)


def test_impossible_windows_and_empty_documents_are_refused(model: GPT) -> None:
    with pytest.raises(EvaluationError, match="window=65, stride=32"):
        perplexity(model, [[1, 2, 3]], window=65, stride=32)
    with pytest.raises(EvaluationError, match="nothing to judge"):
        perplexity(model, [[1], []])
