"""Tokens and text from a model, one token at a time, with a KV cache."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from blixt.llm.errors import PromptError
from blixt.llm.model import GPT, KVCache
from blixt.llm.tokenizer import Detokenizer, Tokenizer


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        max_tokens: Most tokens to generate; None means up to the model's context.
        temperature: Divides the logits; 0 takes the likeliest token.
        top_k: Keep only this many likeliest tokens; 0 keeps all.
        top_p: Keep the likeliest tokens that together reach this probability (nucleus sampling, Holtzman et
            al. 2019, arXiv:1904.09751).
        seed: Makes the draw repeatable; None draws afresh.
        stop: Texts before which generation ends.
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise PromptError(f"max_tokens={self.max_tokens}: must be at least 1")
        if not 0 <= self.temperature <= 100:
            raise PromptError(f"temperature={self.temperature}: must be between 0 and 100")
        if self.top_k < 0:
            raise PromptError(f"top_k={self.top_k}: must be 0 (all) or more")
        if not 0 < self.top_p <= 1:
            raise PromptError(f"top_p={self.top_p}: must be above 0 and at most 1")
        if "" in self.stop:
            raise PromptError('stop holds an empty text ""')


@dataclass(frozen=True, slots=True)
class Step:
    """What one token added.

    Attributes:
        text: New text; "" while a character is incomplete.
        finish_reason: Set on the last step: "stop" (end token) or "length".
    """

    text: str
    finish_reason: Literal["stop", "length"] | None = None


def choose(logits: Tensor, sampling: Sampling, generator: torch.Generator | None) -> int:
    """Pick one id from logits (V,)."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    logits = logits.float() / sampling.temperature
    if 0 < sampling.top_k < logits.numel():
        logits = logits.masked_fill(logits < logits.topk(sampling.top_k).values[-1], float("-inf"))
    probabilities = logits.softmax(-1)
    if sampling.top_p < 1:
        ordered, order = probabilities.sort(descending=True)
        # A token stays while those before it have not reached top_p, so the likeliest one always stays.
        ordered[ordered.cumsum(0) - ordered >= sampling.top_p] = 0
        probabilities = torch.zeros_like(probabilities).scatter_(0, order, ordered)
    return int(torch.multinomial(probabilities, 1, generator=generator))


@torch.inference_mode()
def generate_tokens(model: GPT, prompt: Sequence[int], sampling: Sampling) -> Iterator[int]:
    """Generate ids after a prompt; ends after the end token, at `max_tokens` or when the context is full.

    Raises:
        PromptError: The prompt is empty or leaves no room in the model's context.
    """
    count = _room(model, len(prompt), sampling)
    weight = model.embed.weight
    generator = None
    if sampling.seed is not None:
        generator = torch.Generator(device=weight.device).manual_seed(sampling.seed)
    cache = KVCache(model.config, batch=1, like=weight, length=len(prompt) + count)
    tokens = torch.tensor([list(prompt)], device=weight.device)
    for _ in range(count):
        token = choose(model(tokens, cache)[0, -1], sampling, generator)
        yield token
        if token in model.config.eos:
            return
        tokens = torch.tensor([[token]], device=weight.device)


def stream_steps(
    model: GPT, tokenizer: Tokenizer, prompt: Sequence[int], sampling: Sampling
) -> Iterator[Step]:
    """Generate one `Step` a token; their texts joined are the decoded whole. Stop texts are not looked for.

    Raises:
        PromptError: The prompt is empty or leaves no room in the model's context.
    """
    detokenizer = Detokenizer(tokenizer)
    left = _room(model, len(prompt), sampling)
    for token in generate_tokens(model, prompt, sampling):
        left -= 1
        if token in model.config.eos:
            yield Step(detokenizer.finish(), "stop")
        elif left == 0:
            yield Step(detokenizer.add(token) + detokenizer.finish(), "length")
        else:
            yield Step(detokenizer.add(token))


def _room(model: GPT, prompt_tokens: int, sampling: Sampling) -> int:
    """How many tokens may follow the prompt."""
    context = model.config.context
    if not prompt_tokens:
        raise PromptError("the prompt is empty: give at least one token")
    if prompt_tokens >= context:
        raise PromptError(
            f"the prompt has {prompt_tokens} tokens; the model's context of {context} "
            f"leaves room for {context - 1}"
        )
    room = context - prompt_tokens
    return min(room, sampling.max_tokens or room)
