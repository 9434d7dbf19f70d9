"""Perplexity: how surprised a model is by a text, on average over its tokens."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from blixt.llm.errors import EvaluationError
from blixt.llm.evaluate.score import BATCH_TOKENS, Span, score
from blixt.llm.model import GPT


@dataclass(frozen=True)
class Perplexity:
    """A model's surprise.

    Attributes:
        loss: Mean negative log-probability of a token, in nats.
        tokens: How many were judged.
        logprob: Sum over all of them, in nats.
    """

    loss: float
    tokens: int
    logprob: float

    @property
    def perplexity(self) -> float:
        """The exponential of the loss: among how many equally likely tokens the model wavers."""
        return math.exp(min(self.loss, 700))

    def bits_per_byte(self, size_bytes: int) -> float:
        """Bits that the model needs for a byte of the text: comparable between tokenizers."""
        return -self.logprob / math.log(2) / size_bytes


def perplexity(
    model: GPT,
    documents: Sequence[Sequence[int]],
    *,
    window: int | None = None,
    stride: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> Perplexity:
    """Judge documents; one longer than the window is read in overlapping windows.

    Args:
        model: In evaluation mode.
        documents: Token ids; the first of each is given, not judged.
        window: Most tokens a prediction may look back on; the model's context by default.
        stride: Tokens judged by each further window; half a window by default. Less is slower and gives
            each token more to look back on.
        batch_tokens: Tokens in a forward.

    Raises:
        EvaluationError: There is nothing to judge, or a window or stride is impossible.
    """
    window = window or model.config.context
    stride = stride or max(1, window // 2)
    if not 0 < stride <= window <= model.config.context:
        raise EvaluationError(
            f"window={window}, stride={stride}: need 0 < stride <= window <= {model.config.context}, "
            "the model's context"
        )
    spans = [span for document in documents for span in windows(document, window, stride)]
    if not spans:
        raise EvaluationError("no document has two tokens, so there is nothing to judge")
    scores = score(model, spans, batch_tokens=batch_tokens)
    logprob, tokens = math.fsum(part.logprob for part in scores), sum(part.tokens for part in scores)
    return Perplexity(-logprob / tokens, tokens, logprob)


def windows(document: Sequence[int], window: int, stride: int) -> list[Span]:
    """Spans that judge every token of a document but its first exactly once.

    Args:
        document: Token ids.
        window: Most tokens read at once.
        stride: Tokens that each window after the first judges, the last one fewer.
    """
    spans: list[Span] = []
    judged = 1
    while judged < len(document):
        end = min(len(document), judged + (stride if spans else window))
        spans.append(Span(document[max(0, end - 1 - window) : end], end - judged))
        judged = end
    return spans
