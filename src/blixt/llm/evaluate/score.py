"""How likely a model finds texts: many of them in one packed forward, logits only where they count."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blixt.llm.attention import Packed
from blixt.llm.errors import EvaluationError
from blixt.llm.model import GPT

BATCH_TOKENS = 2048
_LOGITS_AT_ONCE = 1 << 25  # numbers of logits held: 128 MiB in float32


@dataclass(frozen=True)
class Span:
    """A sequence of which the end is judged.

    Attributes:
        tokens: The whole sequence.
        scored: How many of its last tokens are judged, each given all before it.
    """

    tokens: Sequence[int]
    scored: int


@dataclass(frozen=True)
class Score:
    """What a model made of a span.

    Attributes:
        logprob: Sum of the judged tokens' log-probabilities, in nats.
        greedy: Whether each of them was the likeliest.
        tokens: How many were judged.
    """

    logprob: float
    greedy: bool
    tokens: int


@torch.inference_mode()
def score(model: GPT, spans: Sequence[Span], *, batch_tokens: int = BATCH_TOKENS) -> list[Score]:
    """Judge spans, packed side by side into forwards of about `batch_tokens` tokens.

    The same spans in the same order give the same numbers. Each span is one sequence from position 0.

    Args:
        model: In evaluation mode.
        spans: None longer than the model's context.
        batch_tokens: Most tokens in a forward; a longer span is one of its own.

    Raises:
        EvaluationError: A span is longer than the context, or has no token before those it judges.
    """
    for span in spans:
        if not 0 < span.scored < len(span.tokens):
            raise EvaluationError(
                f"{span.scored} of {len(span.tokens)} tokens cannot be judged: one must stand before them"
            )
        # The last token is judged but never read, so a span may be one longer than the context.
        if len(span.tokens) - 1 > model.config.context:
            raise EvaluationError(
                f"a sequence of {len(span.tokens)} tokens does not fit the model's context of "
                f"{model.config.context}"
            )
    scores: list[Score] = []
    for batch in _batches(spans, batch_tokens):
        scores.extend(_score_batch(model, batch))
    return scores


def _batches(spans: Sequence[Span], batch_tokens: int) -> Iterator[list[Span]]:
    batch: list[Span] = []
    filled = 0
    for span in spans:
        if batch and filled + len(span.tokens) - 1 > batch_tokens:
            yield batch
            batch, filled = [], 0
        batch.append(span)
        filled += len(span.tokens) - 1
    if batch:
        yield batch


def _score_batch(model: GPT, spans: list[Span]) -> list[Score]:
    device = model.embed.weight.device
    read = [list(span.tokens[:-1]) for span in spans]
    edges = torch.tensor([0, *(len(tokens) for tokens in read)]).cumsum(0)
    tokens = torch.tensor([token for row in read for token in row], device=device)
    hidden = model.hidden(tokens, Packed.from_bounds(edges, device=device))
    ends = [int(edge) for edge in edges[1:]]
    rows = torch.cat([torch.arange(end - span.scored, end) for span, end in zip(spans, ends, strict=True)])
    targets = torch.tensor([token for span in spans for token in span.tokens[-span.scored :]], device=device)
    logprobs, greedy = _judge(model, hidden[rows.to(device)], targets)
    counts = [span.scored for span in spans]
    return [
        Score(float(part.double().sum()), bool(best.all()), len(part))
        for part, best in zip(torch.split(logprobs, counts), torch.split(greedy, counts), strict=True)
    ]


def _judge(model: GPT, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability of each target, and whether it was the likeliest, both (N,) on the CPU."""
    at_once = max(1, _LOGITS_AT_ONCE // model.config.vocab)
    logprobs: list[Tensor] = []
    greedy: list[Tensor] = []
    for some, wanted in zip(torch.split(hidden, at_once), torch.split(targets, at_once), strict=True):
        logits = model.logits(some).float()
        chosen = logits.gather(1, wanted.unsqueeze(1)).squeeze(1)
        logprobs.append((chosen - logits.logsumexp(1)).cpu())
        greedy.append((logits.argmax(1) == wanted).cpu())
    return torch.cat(logprobs), torch.cat(greedy)
