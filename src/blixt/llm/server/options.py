"""How a model is served: everything but its address."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class ServeOptions:
    """How a model is served.

    Attributes:
        dtype: Of the weights; None keeps them as stored.
        quantize: Store linear layers as "int8", "int4", "nf4" or "fp8".
        max_batch: Requests that run side by side; further ones wait.
        context: Longest prompt and answer together, in tokens; None means as long as the model can.
        speculate: None guesses tokens from the text so far where that pays; "ngram" always does; the
            directory of a small model lets that guess; "off" guesses nothing.
        adapters: LoRA adapters (PEFT's files) by name; each is a model of its own to clients.
        chat_template: A `.jinja` file, or the name of a prompt style, in place of the model's own template.
        max_tokens: Bound of an answer when the client names none.
        prefix_cache: Whether prompts that begin alike share what was computed for them.
        kv_bytes: Memory for keys and values; None takes a share of what is free.
    """

    dtype: str | None = None
    quantize: str | None = None
    max_batch: int = 16
    context: int | None = None
    speculate: str | None = None
    adapters: Mapping[str, str | Path] = field(default_factory=dict[str, "str | Path"])
    chat_template: str | None = None
    max_tokens: int | None = None
    prefix_cache: bool = True
    kv_bytes: int | None = None
