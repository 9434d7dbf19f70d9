"""One request on its way through the engine, and what the engine tells about it."""

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Literal, NamedTuple

from torch import Tensor

from blixt.llm.engine.blocks_tables import Tables
from blixt.llm.sampling import Sampling
from blixt.llm.tokenizer import Detokenizer
from blixt.serve import StopFilter

if TYPE_CHECKING:
    from blixt.llm.engine.grammar_state import GrammarState

FinishReason = Literal["stop", "length", "cancelled", "error"]


class State(Enum):
    """Where a request is; the scheduler alone moves it."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


class TokenLogprob(NamedTuple):
    """A token's log probability under the model alone, before temperature and filters.

    Attributes:
        token: The id.
        logprob: Natural logarithm of its probability.
        top: The likeliest ids at that place with theirs, best first; as many as `Sampling.logprobs` says.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(slots=True)
class Update:
    """What a step added to one request.

    Attributes:
        uid: The request.
        tokens: New token ids, the end token included.
        text: New text, never half a character or part of a stop text; "" without a tokenizer.
        logprobs: One per token when asked for, else empty.
        finish_reason: None while it goes on; "stop" (end token, stop id or stop text, or a finished
            grammar), "length", "cancelled" or "error".
        prompt_tokens: Length of the prompt.
        cached_tokens: How many of those came from the prefix cache.
        prompt_logprobs: Of prompt tokens 1.. (the first has none), on the first update, when asked for.
        error: What went wrong when `finish_reason` is "error".
    """

    uid: str
    tokens: list[int] = field(default_factory=list[int])
    text: str = ""
    logprobs: list[TokenLogprob] = field(default_factory=list[TokenLogprob])
    finish_reason: FinishReason | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list[TokenLogprob])
    error: str = ""


@dataclass(eq=False, slots=True)
class Request:
    """A prompt, how to go on from it, and how far that got.

    Attributes:
        uid: Its name.
        tokens: Prompt and what was generated.
        prompt_tokens: How many of them are the prompt.
        limit: Most tokens it may have in all.
        sampling: How to choose tokens.
        seed: For its draws; `sampling.seed` or a fresh one.
        order: Smaller goes first: (priority, arrival).
        salt: Shares cached blocks only with requests of the same salt.
        adapter: Name of the LoRA adapter, or None.
        state: Set by the scheduler.
        computed: Leading tokens whose keys and values are in the cache.
        tables: Its blocks.
        cached: Prompt tokens found in the prefix cache.
        regime: Which rope factors its cache was computed with, see `runner_rope`.
        drafts: Guessed tokens of the running step.
        draft_probs: What they were drawn from, if they were drawn.
        grammar: Masks tokens that its format does not allow.
        stop_ids: End tokens and stop ids that end it.
        detokenizer: Makes text of tokens, when the engine has a tokenizer.
        stops: Watches the text for stop texts.
        prompt_logprobs: Gathered while the prompt is computed, when asked for.
        arrived_s, started_s, first_s, last_s: Clock readings for the metrics; 0 until then.
        preemptions: How often it lost its blocks.
    """

    uid: str
    tokens: list[int]
    prompt_tokens: int
    limit: int
    sampling: Sampling
    seed: int
    order: tuple[int, int]
    salt: str = ""
    adapter: str | None = None
    state: State = State.WAITING
    computed: int = 0
    tables: Tables | None = None
    cached: int = 0
    regime: int = 0
    drafts: list[int] = field(default_factory=list[int])
    draft_probs: Tensor | None = None
    grammar: "GrammarState | None" = None
    stop_ids: frozenset[int] = frozenset()
    detokenizer: Detokenizer | None = None
    stops: StopFilter | None = None
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list[TokenLogprob])
    arrived_s: float = 0.0
    started_s: float = 0.0
    first_s: float = 0.0
    last_s: float = 0.0
    preemptions: int = 0

    @property
    def chain_salt(self) -> str:
        """What its cached blocks depend on besides the tokens."""
        return f"{self.salt}\0{self.regime}"

    @property
    def generated(self) -> list[int]:
        """The tokens after the prompt."""
        return self.tokens[self.prompt_tokens :]

    @property
    def count(self) -> int:
        """How many tokens were generated."""
        return len(self.tokens) - self.prompt_tokens

    @property
    def left(self) -> int:
        """How many tokens may still come."""
        return self.limit - len(self.tokens)

    @property
    def decoding(self) -> bool:
        """Only the newest token is left to compute."""
        return self.computed == len(self.tokens) - 1


def names(uid: str, n: int) -> list[str]:
    """What the requests of `n` answers to one prompt are called."""
    return [uid] if n == 1 else [f"{uid}.{i}" for i in range(n)]
