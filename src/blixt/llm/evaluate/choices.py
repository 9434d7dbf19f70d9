"""Multiple choice: which of several continuations a model finds likeliest."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from blixt.llm.errors import EvaluationError
from blixt.llm.evaluate.score import BATCH_TOKENS, Score, Span, score
from blixt.llm.model import GPT
from blixt.llm.tokenizer import Tokenizer


@dataclass(frozen=True)
class Question:
    """A question with its possible answers.

    Attributes:
        context: What stands before the answer; may be empty.
        choices: The answers, at least two.
        answer: Index of the right one.
    """

    context: str
    choices: tuple[str, ...]
    answer: int

    def __post_init__(self) -> None:
        if len(self.choices) < 2 or "" in self.choices:
            raise EvaluationError("a question needs two or more choices, none of them empty")
        if not 0 <= self.answer < len(self.choices):
            raise EvaluationError(f"answer {self.answer} is none of the {len(self.choices)} choices")


@dataclass(frozen=True)
class Choices:
    """How a model answered.

    Attributes:
        accuracy: Share of questions where the likeliest choice was the right one.
        normalised: The same after dividing each choice's log-probability by its number of characters, so
            that long answers are not put last for their length.
        questions: How many there were.
        picks: For each question, the choice taken after normalising.
    """

    accuracy: float
    normalised: float
    questions: int
    picks: tuple[int, ...]

    def error(self, share: float) -> float:
        """Standard error of a share of these questions."""
        return math.sqrt(share * (1 - share) / max(1, self.questions - 1))


def multiple_choice(
    model: GPT,
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    *,
    delimiter: str = " ",
    batch_tokens: int = BATCH_TOKENS,
) -> Choices:
    """Let a model choose by log-probability.

    Args:
        model: In evaluation mode.
        tokenizer: The model's.
        questions: At least one.
        delimiter: Between context and choice.
        batch_tokens: Tokens in a forward.

    Raises:
        EvaluationError: There are no questions, or the model has neither begin nor end token for an empty
            context.
    """
    if not questions:
        raise EvaluationError("there are no questions")
    spans: list[Span] = []
    for question in questions:
        for choice in question.choices:
            context, continuation = encode_pair(tokenizer, question.context, delimiter + choice)
            spans.append(span_of(context, continuation, model.config.context))
    scores = iter(score(model, spans, batch_tokens=batch_tokens))
    right = right_normalised = 0
    picks: list[int] = []
    for question in questions:
        found = [next(scores) for _ in question.choices]
        right += _best(found, [1] * len(found)) == question.answer
        picks.append(_best(found, [len(choice) for choice in question.choices]))
        right_normalised += picks[-1] == question.answer
    count = len(questions)
    return Choices(right / count, right_normalised / count, count, tuple(picks))


def encode_pair(tokenizer: Tokenizer, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Ids of a context and of what follows it, cut where the whole text's tokens are cut.

    Spaces at the context's end count to the continuation, as tokenizers put them before a word.

    Raises:
        EvaluationError: The context is empty and there is no token to stand for it.
    """
    if not context:
        start = tokenizer.bos if tokenizer.bos is not None else next(iter(tokenizer.eos), None)
        if start is None:
            raise EvaluationError("an empty context needs a begin or end token, and the tokenizer has none")
        ids = tokenizer.encode(continuation, bos=False)
        return ([start], ids) if ids[:1] != [start] else (ids[:1], ids[1:])
    stripped = context.rstrip()
    continuation = context[len(stripped) :] + continuation
    before = tokenizer.encode(stripped)
    return before, tokenizer.encode(stripped + continuation)[len(before) :]


def span_of(context: Sequence[int], continuation: Sequence[int], most: int) -> Span:
    """A continuation after as much of its context's end as fits into `most` tokens."""
    return Span([*context, *continuation][-(most + 1) :], len(continuation))


def _best(scores: Sequence[Score], lengths: Sequence[int]) -> int:
    values = [one.logprob / length for one, length in zip(scores, lengths, strict=True)]
    return values.index(max(values))
