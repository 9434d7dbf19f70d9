"""How the next token is chosen: one request's settings."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from blixt.llm.errors import PromptError

if TYPE_CHECKING:
    from blixt.llm.engine.grammar import Format

MOST_LOGPROBS = 64


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen, and when to stop.

    Penalties and bias come first, then the temperature, then `top_k`, `top_p` and `min_p`, in this order.

    Attributes:
        max_tokens: Most tokens to generate; None means up to the model's context.
        temperature: Divides the logits; 0 takes the likeliest token.
        top_k: Keep only this many likeliest tokens; 0 keeps all.
        top_p: Keep the likeliest tokens that together reach this probability (nucleus sampling, Holtzman et
            al. 2019, arXiv:1904.09751).
        min_p: Keep tokens at least this many times as likely as the likeliest (arXiv:2407.01082).
        seed: Makes the draws repeatable, whatever else runs in the batch; None draws afresh.
        stop: Texts before which generation ends.
        stop_token_ids: Ids that end it, as the model's end tokens do; they are counted, not shown.
        ignore_eos: Go on after the model's end tokens.
        min_tokens: End neither at an end token nor at a stop text before this many tokens.
        presence_penalty: Subtracted from the logit of every token generated before (OpenAI's definition).
        frequency_penalty: Subtracted once for each time it was generated.
        repetition_penalty: Divides positive and multiplies negative logits of tokens of the prompt or the
            answer (CTRL, arXiv:1909.05858); 1 does nothing.
        logit_bias: Added to the logits of these ids.
        logprobs: Report each token's log probability and this many likeliest alternatives; None reports
            nothing.
        prompt_logprobs: The same for the prompt's own tokens.
        n: How many answers to draw; they share the prompt's computation.
        format: What the answer must look like (JSON schema, regular expression ...), or None.
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    min_tokens: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    n: int = 1
    format: "Format | None" = None

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise PromptError(f"{name}={value}: must be between {low} and {high}")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise PromptError(f"max_tokens={self.max_tokens}: must be at least 1")
        if self.top_k < 0:
            raise PromptError(f"top_k={self.top_k}: must be 0 (all) or more")
        if not 0 < self.top_p <= 1:
            raise PromptError(f"top_p={self.top_p}: must be above 0 and at most 1")
        if self.repetition_penalty <= 0:
            raise PromptError(
                f"repetition_penalty={self.repetition_penalty}: must be above 0; 1 does nothing"
            )
        if self.min_tokens < 0 or (self.max_tokens is not None and self.min_tokens > self.max_tokens):
            raise PromptError(f"min_tokens={self.min_tokens}: must be between 0 and max_tokens")
        if self.n < 1:
            raise PromptError(f"n={self.n}: must be at least 1")
        if "" in self.stop:
            raise PromptError('stop holds an empty text ""')

    @property
    def penalises(self) -> bool:
        """Whether the tokens so far change the logits."""
        return bool(self.presence_penalty or self.frequency_penalty or self.repetition_penalty != 1)


_RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, 100),
    "min_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "logprobs": (0, MOST_LOGPROBS),
    "prompt_logprobs": (0, MOST_LOGPROBS),
}


def make_sampling(**given: Any) -> Sampling:
    """`Sampling` from keywords; None means the default, and `stop` may be one text or a list.

    Raises:
        PromptError: A keyword is unknown or impossible.
    """
    values = {name: value for name, value in given.items() if value is not None}
    if unknown := sorted(values.keys() - {field.name for field in fields(Sampling)}):
        raise PromptError(f"there is no sampling option {unknown[0]!r}")
    stop = values.get("stop", ())
    values["stop"] = (stop,) if isinstance(stop, str) else tuple(stop)
    values["stop_token_ids"] = tuple(values.get("stop_token_ids", ()))
    return Sampling(**values)
