"""A model in the terminal: one continuation, or a conversation."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

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
    device: str | None = None,
    dtype: str | None = None,
    quantize: str | None = None,
    speculate: str | None = None,
    **sampling: Any,
) -> Iterator[str]:
    """Continue a prompt; gives the text in pieces as they come.

    Args:
        model: A checkpoint directory or GGUF file.
        prompt: Text to continue.
        max_tokens: Most tokens to generate.
        temperature: 0 takes the likeliest token, higher is more varied.
        top_k: Draw from this many likeliest tokens only.
        top_p: Draw from the likeliest tokens that together reach this probability.
        seed: Makes the draw repeatable.
        stop: Texts before which generation ends.
        device: Where it runs; None takes a GPU if there is one.
        dtype: Of the weights; None keeps them as stored.
        quantize: Store linear layers as "int8", "int4", "nf4" or "fp8".
        speculate: "ngram", "off", or the directory of a small model that guesses; None guesses where it pays.
        **sampling: Further fields of `Sampling`.

    Raises:
        LLMError: The directory is no checkpoint, or the prompt or an option is impossible.
    """
    from blixt.llm.api import LLM

    place = device or best_device()
    llm = LLM.load(model, place, dtype=dtype, quantize=quantize, speculate=speculate, max_batch=1)
    return llm.stream(
        prompt,
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        stop=stop,
        **sampling,
    )


def chat(
    model: str | Path,
    *,
    system: str | None = None,
    max_tokens: int = 256,
    temperature: float = 0.8,
    top_p: float | None = None,
    seed: int | None = None,
    model_name: str | None = None,
    api_key: str | None = None,
    device: str | None = None,
    **options: Any,
) -> None:
    """Talk to a model on standard input and output until end of input.

    In a terminal answers are shown as Markdown, lines can be edited, `/help` lists commands, and Ctrl-C stops
    an answer. From a pipe each line is a message, and only the answers are written. What was said stays in
    the conversation until it no longer fits the model's context; then the oldest messages are left out.

    Args:
        model: A checkpoint directory, a GGUF file, or the URL of a server with OpenAI's API.
        system: What the model is told first.
        max_tokens: Most tokens of an answer.
        temperature: 0 takes the likeliest token, higher is more varied.
        top_p: Draw from the likeliest tokens that together reach this probability.
        seed: Makes the draws repeatable.
        model_name: Of a server with several models, the one to talk to.
        api_key: Of a server that asks for one.
        device: Where a model of this machine runs; None takes a GPU if there is one.
        **options: Fields of `ServeOptions`, for a model of this machine.

    Raises:
        LLMError: There is no such model; from a pipe also, a message is too long.
    """
    from blixt.llm.terminal_chat import Conversation, talk
    from blixt.llm.terminal_model import local, remote
    from blixt.llm.terminal_screen import screen_of

    if is_url(model):
        if options or device:
            given = next(iter(options), "device")
            raise PromptError(f"{given} is the server's to decide: leave it out when chatting with a URL")
        partner = remote(str(model), model_name, api_key)
    else:
        partner = local(model, device or best_device(), options)
    settings = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "seed": seed}
    known = {name: value for name, value in settings.items() if value is not None}
    interactive = sys.stdin.isatty()
    talk(partner, Conversation(system, known), screen_of(sys.stdout), interactive=interactive)


def is_url(model: str | Path) -> bool:
    """Whether a model is named by the address of a server."""
    return str(model).startswith(("http://", "https://"))


def best_device() -> str:
    """A GPU if there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
