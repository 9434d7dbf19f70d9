"""Tokens from logits, for all rows of a step at once, each row by its own request's settings.

A row's result depends on that row alone: filters are thresholds, not orders, and the random number comes
from the request's seed and the token's place in the answer, not from a generator that rows would share. So a
request draws the same tokens in any company, after a preemption, and with speculation or without.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from blixt.llm.engine.request import TokenLogprob
from blixt.llm.sampling import Sampling

FEW = 1024
"""As many likeliest tokens are looked at before the whole row is sorted for `top_p`."""


@dataclass(frozen=True, slots=True)
class Row:
    """One place to draw a token for.

    Attributes:
        sampling: The request's settings.
        seed: The request's seed.
        place: Which token of the answer it is, from 0.
        tokens: Everything before, prompt and answer; only penalties look at it.
        prompt_tokens: How many of those are the prompt.
        stop_ids: Ids that would end the request.
    """

    sampling: Sampling
    seed: int
    place: int
    tokens: Sequence[int]
    prompt_tokens: int
    stop_ids: frozenset[int] = frozenset()


def uniform(seed: int, place: int, purpose: str = "") -> float:
    """A number in [0, 1) that only these decide."""
    digest = blake2b(f"{seed}:{place}{purpose}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) / (1 << 53)


def sample(logits: Tensor, rows: Sequence[Row]) -> list[int]:
    """Draw one token a row.

    Args:
        logits: (R, V), changed in place.
        rows: R of them.
    """
    edit(logits, rows)
    drawn = [i for i, row in enumerate(rows) if row.sampling.temperature > 0]
    if not drawn:
        return as_list(logits.argmax(-1))
    if len(drawn) == len(rows):
        return as_list(draw(logits, rows))
    tokens = as_list(logits.argmax(-1))
    some = as_list(draw(logits[drawn], [rows[i] for i in drawn]))
    for i, token in zip(drawn, some, strict=True):
        tokens[i] = token
    return tokens


def edit(logits: Tensor, rows: Sequence[Row]) -> None:
    """Apply bias, penalties and `min_tokens` to logits (R, V), in place."""
    penalised = [i for i, row in enumerate(rows) if row.sampling.penalises]
    if penalised:
        logits[penalised] = penalise(logits[penalised], [rows[i] for i in penalised])
    for i, row in enumerate(rows):
        if row.sampling.logit_bias:
            ids = torch.tensor(list(row.sampling.logit_bias), device=logits.device)
            bias = torch.tensor(list(row.sampling.logit_bias.values()), device=logits.device)
            logits[i, ids] += bias.to(logits.dtype)
        if row.place < row.sampling.min_tokens and row.stop_ids:
            logits[i, torch.tensor(sorted(row.stop_ids), device=logits.device)] = float("-inf")


def penalise(logits: Tensor, rows: Sequence[Row]) -> Tensor:
    """Make tokens that were there before less likely, by each row's penalties."""
    counts = _counts(logits, [row.tokens[row.prompt_tokens :] for row in rows])
    repetition = _column(logits, [row.sampling.repetition_penalty for row in rows])
    if any(row.sampling.repetition_penalty != 1 for row in rows):
        before = _counts(logits, [row.tokens for row in rows]) > 0
        logits = torch.where(
            before, torch.where(logits > 0, logits / repetition, logits * repetition), logits
        )
    frequency = _column(logits, [row.sampling.frequency_penalty for row in rows])
    presence = _column(logits, [row.sampling.presence_penalty for row in rows])
    return logits - frequency * counts - presence * (counts > 0)


def draw(logits: Tensor, rows: Sequence[Row]) -> Tensor:
    """Sample from logits (R, V) of rows that all have a temperature; gives ids (R,)."""
    below = probabilities(logits, rows).cumsum_(-1)
    place = _column(below, [uniform(row.seed, row.place) for row in rows]) * below[:, -1:]
    # The first place where the sum exceeds the draw has a probability of its own, so no filtered token wins.
    return torch.searchsorted(below, place, right=True).squeeze(-1).clamp_(max=logits.shape[-1] - 1)


def probabilities(logits: Tensor, rows: Sequence[Row]) -> Tensor:
    """What tokens are drawn from: float64 (R, V) of logits (R, V) of rows that all have a temperature."""
    logits = logits / _column(logits, [row.sampling.temperature for row in rows])
    logits = logits.masked_fill_(logits < threshold(logits, rows), float("-inf"))
    return logits.softmax(-1, dtype=torch.float64)


def pick(weights: Tensor, place: float) -> int:
    """The id that a number in [0, 1) falls on, by weights (V,) of any sum."""
    below = weights.cumsum(-1)
    found = int(torch.searchsorted(below, place * below[-1], right=True))
    return min(found, int(weights.nonzero()[-1]))


def threshold(logits: Tensor, rows: Sequence[Row]) -> Tensor:
    """The smallest logit each row keeps, (R, 1), by `top_k`, then `top_p` of what is left, and `min_p`."""
    vocab = logits.shape[-1]
    ks = [min(row.sampling.top_k or vocab, vocab) for row in rows]
    low = torch.full((len(rows), 1), float("-inf"), dtype=logits.dtype, device=logits.device)
    if any(k < vocab for k in ks):
        likeliest = logits.topk(max(k for k in ks if k < vocab)).values
        index = torch.tensor([[min(k, likeliest.shape[-1]) - 1] for k in ks], device=logits.device)
        limited = torch.tensor([[k < vocab] for k in ks], device=logits.device)
        low = torch.where(limited, likeliest.gather(-1, index), low)
    nucleus = [i for i, row in enumerate(rows) if row.sampling.top_p < 1]
    if nucleus:
        kept = logits[nucleus].masked_fill(logits[nucleus] < low[nucleus], float("-inf"))
        top_p = _column(logits, [rows[i].sampling.top_p for i in nucleus])
        low[nucleus] = torch.maximum(low[nucleus], _nucleus(kept, top_p))
    if any(row.sampling.min_p > 0 for row in rows):
        min_p = _column(logits, [row.sampling.min_p for row in rows])
        low = torch.maximum(low, logits.amax(-1, keepdim=True) + min_p.log())
    return low


def _nucleus(logits: Tensor, top_p: Tensor) -> Tensor:
    """The smallest logit (R, 1) among the likeliest that together reach `top_p` (R, 1)."""
    total = logits.logsumexp(-1, keepdim=True)
    ordered = logits.topk(min(FEW, logits.shape[-1])).values
    reached = (ordered - total).exp().cumsum(-1)
    if ordered.shape[-1] < logits.shape[-1] and bool((reached[:, -1:] < top_p).any()):
        ordered = logits.sort(descending=True).values
        reached = (ordered - total).exp().cumsum(-1)
    # A token stays while those before it have not reached top_p, so the likeliest one always stays.
    kept = (reached[:, :-1] < top_p).sum(-1, keepdim=True)
    return ordered.gather(-1, kept)


def logprobs(logits: Tensor, tokens: Sequence[int], counts: Sequence[int]) -> list[TokenLogprob]:
    """Log probabilities of tokens and of each row's likeliest alternatives.

    Args:
        logits: (R, V) as the model gave them.
        tokens: One a row.
        counts: How many alternatives of each row to name.
    """
    scores = logits.float().log_softmax(-1)
    chosen = scores.gather(-1, torch.tensor(tokens, device=logits.device)[:, None])[:, 0]
    values, ids = scores.topk(max(counts))
    lists = zip(tokens, as_list(chosen), counts, map(as_list, ids), map(as_list, values), strict=True)
    return [
        TokenLogprob(token, own, tuple(zip(names[:count], numbers[:count], strict=True)))
        for token, own, count, names, numbers in lists
    ]


def as_list(vector: Tensor) -> list[Any]:
    """The numbers of a vector; torch's own `tolist` says nothing about their type."""
    return vector.tolist()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - untyped


def _column(like: Tensor, values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None]


def _counts(logits: Tensor, histories: Sequence[Sequence[int]]) -> Tensor:
    """How often each id stands in each history, (R, V)."""
    counts = torch.zeros_like(logits)
    rows = [i for i, history in enumerate(histories) for _ in history]
    ids = [token for history in histories for token in history]
    where = torch.tensor([rows, ids], dtype=torch.int64, device=logits.device)
    return counts.index_put_(
        (where[0], where[1]), torch.ones((), device=logits.device, dtype=counts.dtype), True
    )
