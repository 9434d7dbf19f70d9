"""Speculation: guess the next tokens cheaply, and let one step of the model check all guesses at once.

The engine puts a request's guesses behind its newest token in the flat batch, draws a token at every place
with the ordinary sampler, and keeps what it drew up to the first place where guess and draw differ. A guess
is fixed before the draw, so this is speculative sampling (Leviathan et al. 2023, arXiv:2211.17192) with a
proposal that puts all its weight on one token: it is accepted with its probability under the model, and what
replaces it has the model's distribution without it. Draws are those that would have been made without
guessing, so the very tokens are, too: greedy or not, a seed gives the same text with speculation and without.

Where guesses are drawn themselves, from a distribution that the proposal tells, each is accepted with the
ratio of its probabilities and replaced from what the model gives more than the guesser (`verify`): the text
has the model's distribution again, but is another sample of it than without guessing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor

from blixt.llm.engine.sampler import pick, uniform
from blixt.llm.errors import ConfigError
from blixt.llm.sampling import Sampling


@dataclass(frozen=True)
class Proposal:
    """Guessed tokens.

    Attributes:
        tokens: In order; may be empty.
        probs: What they were drawn from, (k, V) float64; None if they were not drawn but chosen.
    """

    tokens: list[int]
    probs: Tensor | None = None


@dataclass
class SpeculationStats:
    """How often guesses were right.

    Attributes:
        steps: How many proposals were checked.
        proposed: How many tokens they had.
        accepted: How many of those were right.
    """

    steps: int = 0
    proposed: int = 0
    accepted: int = 0

    @property
    def rate(self) -> float:
        """Share of guessed tokens that were right."""
        return self.accepted / self.proposed if self.proposed else 0.0

    @property
    def tokens_per_step(self) -> float:
        """Tokens that a checked proposal gained, the one that would have come anyway included."""
        return 1 + self.accepted / self.steps if self.steps else 1.0

    def add(self, proposed: int, accepted: int) -> None:
        """Count one checked proposal."""
        self.steps += 1
        self.proposed += proposed
        self.accepted += accepted


Asked = tuple[str, Sequence[int], int]
"""A request that wants guesses: its name, its tokens so far, and the most it can use."""


class Proposer(Protocol):
    """Guesses tokens; whatever it guesses, the engine's output stays the same, only the speed changes."""

    def propose_batch(self, asked: Sequence[Asked]) -> list[Proposal]:
        """Guess for several requests, in their order."""
        ...

    def forget(self, uid: str) -> None:
        """The request has ended."""
        ...


@runtime_checkable
class DrawingProposer(Proposer, Protocol):
    """Draws its guesses as a request draws its tokens, and tells from what."""

    def know(self, uid: str, sampling: Sampling, seed: int) -> None:
        """How a request draws; told before each proposal."""
        ...


def verify(target: Tensor, draft: Sequence[int], source: Tensor, seed: int, place: int) -> list[int]:
    """Keep drawn guesses as far as the model agrees, so that the result has the model's distribution.

    The rejection sampling of Leviathan et al. 2023 (arXiv:2211.17192), algorithm 1.

    Args:
        target: The model's probabilities at each guess and behind the last, (k + 1, V).
        draft: The k guesses.
        source: What they were drawn from, (k, W); ids from W on have no probability there.
        seed: Of the request.
        place: Which token of the answer the first guess is.

    Returns:
        The guesses up to the first that is rejected, and then one drawn token.
    """
    kept: list[int] = []
    for index, token in enumerate(draft):
        model, guesser = target[index], source[index]
        ratio = float(model[token]) / float(guesser[token])
        if uniform(seed, place + index, "accept") < ratio:
            kept.append(token)
            continue
        more = model.clone()
        more[: len(guesser)] -= guesser[: len(model)]
        more.clamp_(min=0)
        rest = more if float(more.sum()) > 0 else model  # they differ by rounding alone
        return [*kept, pick(rest, uniform(seed, place + index))]
    return [*kept, pick(target[len(draft)], uniform(seed, place + len(draft)))]


class Pace:
    """How far to guess for one request: further after right guesses, less far after wrong ones."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._length = most
        self._guessed: list[int] = []
        self._at = 0

    def next(self, tokens: Sequence[int]) -> int:
        """How many tokens to guess after `tokens`, which show how the last guesses came out."""
        if self._guessed:
            came = tokens[self._at : self._at + len(self._guessed)]
            if list(came) == self._guessed:
                self._length = min(self._most, 2 * self._length)
            elif came and came[0] != self._guessed[0]:
                self._length = max(1, self._length // 2)
        return self._length

    def note(self, tokens: Sequence[int], guessed: list[int]) -> None:
        """Remember what was guessed after `tokens`."""
        self._at, self._guessed = len(tokens), guessed


@dataclass
class _Seen:
    """Where each run of tokens of one request last stood: the index of the token after it."""

    pace: Pace
    after: dict[tuple[int, ...], int] = field(default_factory=dict[tuple[int, ...], int])
    indexed: int = 0


class NgramProposer:
    """Guesses that what followed the last few tokens before will follow them again (prompt lookup).

    Costs no model; pays where answers repeat their prompt: quoting, editing code, extracting.

    Args:
        k: Most tokens to guess.
        longest: Most tokens that must recur.
        shortest: Least tokens that must recur.
    """

    def __init__(self, k: int = 4, longest: int = 3, shortest: int = 2) -> None:
        if not 0 < shortest <= longest or k < 1:
            raise ConfigError(
                f"k={k}, longest={longest}, shortest={shortest}: need k > 0, 0 < shortest <= longest"
            )
        self._k, self._sizes = k, range(longest, shortest - 1, -1)
        self._requests: dict[str, _Seen] = {}

    def propose_batch(self, asked: Sequence[Asked]) -> list[Proposal]:
        """Guess for several requests, in their order."""
        return [Proposal(self._propose(uid, tokens, limit)) for uid, tokens, limit in asked]

    def forget(self, uid: str) -> None:
        """The request has ended."""
        self._requests.pop(uid, None)

    def _propose(self, uid: str, tokens: Sequence[int], limit: int) -> list[int]:
        seen = self._requests.setdefault(uid, _Seen(Pace(self._k)))
        self._index(seen, tokens)
        count = min(limit, seen.pace.next(tokens))
        guessed: list[int] = []
        for size in self._sizes:
            start = seen.after.get(tuple(tokens[-size:])) if len(tokens) >= size else None
            if start is not None:
                # Past the end the guess goes on in itself: a text that repeats is guessed as repeating.
                for at in range(start, start + count):
                    guessed.append(tokens[at] if at < len(tokens) else guessed[at - len(tokens)])
                break
        seen.pace.note(tokens, guessed)
        return guessed

    def _index(self, seen: _Seen, tokens: Sequence[int]) -> None:
        for at in range(seen.indexed, len(tokens)):
            for size in self._sizes:
                if at >= size:
                    seen.after[tuple(tokens[at - size : at])] = at
        seen.indexed = len(tokens)
