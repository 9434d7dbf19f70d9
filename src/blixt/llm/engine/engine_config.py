"""Sizes and switches of an engine, and how much memory its cache may take."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from blixt.llm.errors import ConfigError
from blixt.llm.weights.free import free_bytes

if TYPE_CHECKING:
    from blixt.llm.engine.speculative import Proposer

CACHE_SHARE = {"cpu": 0.25, "cuda": 0.85}
"""Part of the free memory that the cache takes when nothing is said."""

SPECULATE = ("auto", "ngram", "off")
"""What `EngineConfig.speculate` may be called."""


@dataclass(frozen=True)
class EngineConfig:
    """Sizes and switches of an engine.

    Attributes:
        max_batch: Most requests running at once.
        max_tokens_per_step: Most tokens computed in one step, decoding and prompts together. Smaller lets
            running answers stutter less behind long prompts, larger reads prompts faster.
        max_waiting: Most requests in the queue; more are refused.
        context: Longest request in tokens; None means the model's context.
        block_size: Tokens in a block of the cache; None means 32 on a CPU, 256 on a GPU, whose fast kernel
            takes multiples of 256 only.
        blocks: Number of blocks; None derives it from the memory.
        kv_bytes: Memory for the cache; None means a share of what is free, and at most what `max_batch`
            requests of full length need.
        prefix_cache: Whether a request may use blocks that an earlier one with the same beginning computed.
        batch_invariant: Give every row the same bits in any batch, also where that is slower.
        speculate: Who guesses tokens; what comes out is the same with guesses and without. "auto" guesses
            from the text so far where that was right lately, on a CPU with a dense float32 model and without
            `batch_invariant`; "ngram" guesses so always; a proposer; "off" or None.
        speculate_tokens: How many tokens to guess at most.
        cuda_graphs: Replay captured graphs for steps that only decode, on a GPU.
    """

    max_batch: int = 16
    max_tokens_per_step: int = 512
    max_waiting: int = 4096
    context: int | None = None
    block_size: int | None = None
    blocks: int | None = None
    kv_bytes: int | None = None
    prefix_cache: bool = True
    batch_invariant: bool = False
    speculate: "str | Proposer | None" = "auto"
    speculate_tokens: int = 4
    cuda_graphs: bool = True

    def __post_init__(self) -> None:
        for name in ("max_batch", "max_tokens_per_step", "max_waiting", "speculate_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"EngineConfig({name}={getattr(self, name)}): must be at least 1")
        for name in ("context", "block_size", "blocks", "kv_bytes"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ConfigError(f"EngineConfig({name}={getattr(self, name)}): must be at least 1, or None")
        if isinstance(self.speculate, str) and self.speculate not in SPECULATE:
            raise ConfigError(
                f"EngineConfig(speculate={self.speculate!r}): must be one of {', '.join(SPECULATE)}, "
                "a proposer or None"
            )


def memory_for_cache(device: torch.device) -> int:
    """Bytes the cache may take on a device when nothing is said."""
    return int(free_bytes(device) * CACHE_SHARE.get(device.type, 0.25))
