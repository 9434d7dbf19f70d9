"""A model in the terminal: one continuation, or a conversation."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from blixt.llm.api import LLM
from blixt.llm.errors import PromptError


def generate(
    model: str | Path,
    prompt: str,
    *,
    max_tokens: int = 64,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    stop: Sequence[str] | None = None,
) -> Iterator[str]:
    """Continue a prompt; gives the text in pieces as they come.

    Args:
        model: A checkpoint directory.
        prompt: Text to continue.
        max_tokens: Most tokens to generate.
        temperature: 0 takes the likeliest token, higher is more varied.
        top_k: Draw from this many likeliest tokens only.
        top_p: Draw from the likeliest tokens that together reach this probability.
        seed: Makes the draw repeatable.
        stop: Texts before which generation ends.

    Raises:
        LLMError: The directory is no checkpoint, or the prompt or an option is impossible.
    """
    llm = LLM.load(model)
    return llm.stream(
        prompt,
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        stop=stop,
    )


def chat(
    model: str | Path,
    *,
    max_tokens: int = 256,
    temperature: float = 0.8,
    top_p: float | None = None,
    seed: int | None = None,
) -> None:
    """Talk to a model on standard input and output until end of input.

    What was said stays in the conversation until it no longer fits the model's context; then the oldest
    messages are left out.

    Args:
        model: A checkpoint directory.
        max_tokens: Most tokens of an answer.
        temperature: 0 takes the likeliest token, higher is more varied.
        top_p: Draw from the likeliest tokens that together reach this probability.
        seed: Makes the draws repeatable.

    Raises:
        LLMError: The directory is no checkpoint, or a message alone is too long.
    """
    llm = LLM.load(model)
    said: list[str] = []
    while (line := _ask()) is not None:
        said.append(line)
        said = said[_oldest_that_fits(llm, said) :]
        answer = ""
        pieces = llm.stream(
            "\n".join(said), max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed
        )
        for piece in pieces:
            print(piece, end="", flush=True)
            answer += piece
        print()
        said.append(answer)


def _ask() -> str | None:
    """The next line that is not empty; None at the end of input."""
    while True:
        if sys.stdin.isatty():
            print("> ", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            return None
        if line.strip():
            return line.rstrip("\n")


def _oldest_that_fits(llm: LLM, said: list[str]) -> int:
    """Index of the first message to keep so that half of the context is left for the answer."""
    room = llm.model.config.context // 2
    for first in range(len(said)):
        if len(llm.tokenizer.encode("\n".join(said[first:]))) <= room:
            return first
    raise PromptError(f"that message is longer than half of the model's context, {room} tokens")
