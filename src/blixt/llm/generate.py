"""Tokens from a model, one at a time, with a KV cache."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

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


@dataclass
class Completion:
    """A generated text, filled while it is streamed.

    Attributes:
        text: What was generated, without the stop text.
        prompt_tokens: Number of tokens in the prompt.
        completion_tokens: Number of tokens generated, the end token included.
        finish_reason: "stop" (end token or stop text), "length", or "" while it runs.
    """

    text: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: str = ""
    _held: str = field(default="", repr=False)


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
    context = model.config.context
    if not prompt:
        raise PromptError("the prompt is empty: give at least one token")
    if len(prompt) >= context:
        raise PromptError(
            f"the prompt has {len(prompt)} tokens; the model's context of {context} "
            f"leaves room for {context - 1}"
        )
    room = context - len(prompt)
    count = min(room, sampling.max_tokens or room)
    weight = model.embed.weight
    generator = None
    if sampling.seed is not None:
        generator = torch.Generator(device=weight.device).manual_seed(sampling.seed)
    cache = KVCache(model.config, batch=1, like=weight, length=len(prompt) + count)
    tokens = torch.tensor([list(prompt)], device=weight.device)
    for _ in range(count):
        token = choose(model(tokens, cache)[0, -1], sampling, generator)
        yield token
        if token == model.config.eos:
            return
        tokens = torch.tensor([[token]], device=weight.device)


def stream_text(
    model: GPT, tokenizer: Tokenizer, prompt: str, sampling: Sampling, completion: Completion | None = None
) -> Iterator[str]:
    """Generate text after a prompt, piece by piece; never half a character, never part of a stop text.

    Args:
        model: The model, in evaluation mode.
        tokenizer: The one it was trained with.
        prompt: Text to continue.
        sampling: How tokens are chosen and when to stop.
        completion: Filled on the way, for counts and the reason it ended.
    """
    ids = tokenizer.encode(prompt)
    result = completion if completion is not None else Completion()
    result.prompt_tokens = len(ids)
    detokenizer = Detokenizer(tokenizer)
    for token in generate_tokens(model, ids, sampling):
        result.completion_tokens += 1
        if token == model.config.eos:
            result.finish_reason = "stop"
            break
        yield from _release(result, detokenizer.add(token), sampling.stop)
        if result.finish_reason:
            return
    rest = detokenizer.finish()
    yield from _release(result, rest, sampling.stop)
    if result._held:
        result.text += result._held
        yield result._held
        result._held = ""
    result.finish_reason = result.finish_reason or "length"


def _release(result: Completion, piece: str, stop: tuple[str, ...]) -> Iterator[str]:
    """Give what of the held text and `piece` can no longer become a stop text."""
    text = result._held + piece
    found = [at for at in (text.find(word) for word in stop) if at >= 0]
    if found:
        ready, result._held, result.finish_reason = text[: min(found)], "", "stop"
    else:
        keep = max((_overlap(text, word) for word in stop), default=0)
        ready, result._held = text[: len(text) - keep], text[len(text) - keep :]
    if ready:
        result.text += ready
        yield ready


def _overlap(text: str, word: str) -> int:
    """Length of the longest end of `text` that begins `word`."""
    for size in range(min(len(text), len(word) - 1), 0, -1):
        if text.endswith(word[:size]):
            return size
    return 0
