"""What an engine is made of, from a model's shape and its configuration."""

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from blixt.llm.config import ModelConfig
from blixt.llm.engine.blocks import BlockPool
from blixt.llm.engine.blocks_tables import CacheBlocks, Group
from blixt.llm.engine.engine_config import EngineConfig, memory_for_cache
from blixt.llm.engine.graphs import DecodeGraphs, can_capture
from blixt.llm.engine.paged_cache import PagedCache, block_bytes, block_counts, cache_groups
from blixt.llm.engine.paged_cuda import flash_fits
from blixt.llm.errors import TooLittleMemoryError
from blixt.llm.model import GPT, MLP
from blixt.llm.weights.free import free_bytes

if TYPE_CHECKING:
    from blixt.llm.engine.speculative import Proposer, SpeculationStats

BLOCK_SIZE = {"cpu": 32, "cuda": 256}
"""Tokens in a block; torch's own FlashAttention reads pages of 256 or a multiple."""


def longest(config: ModelConfig, engine: EngineConfig) -> int:
    """Most tokens of one request that the model and the settings allow."""
    return min(engine.context or config.context, config.context)


def build_cache(config: ModelConfig, engine: EngineConfig, weight: Tensor) -> tuple[CacheBlocks, PagedCache]:
    """The bookkeeping of the cache and its tensors, in the dtype and on the device of a weight."""
    device, dtype = weight.device, weight.dtype
    size = engine.block_size or BLOCK_SIZE.get(device.type, 32)
    groups = cache_groups(config)
    counts = block_counts(
        config,
        groups,
        size,
        dtype,
        tokens=longest(config, engine),
        batch=engine.max_batch,
        step=engine.max_tokens_per_step,
        room_bytes=engine.kv_bytes or memory_for_cache(device),
    )
    if engine.blocks is not None:
        counts = tuple(
            engine.blocks if group.reach == "full" else count
            for group, count in zip(groups, counts, strict=True)
        )
        sizes = [block_bytes(config, group, size, dtype) for group in groups]
        _check_blocks(engine.blocks, sum(map(prod, zip(counts, sizes, strict=True))), device)
    pools = [BlockPool(count, spread=device.type == "cpu") for count in counts]
    return CacheBlocks(groups, pools, size), PagedCache(config, groups, counts, size, dtype, device)


def _check_blocks(blocks: int, size_bytes: int, device: torch.device) -> None:
    """Refuse more blocks than there is memory for, before any is taken."""
    free = free_bytes(device)
    if size_bytes > free:
        raise TooLittleMemoryError(
            f"blocks={blocks}: so many of the cache take {size_bytes / 1e9:.2f} GB, and {device} has "
            f"{free / 1e9:.2f} GB free; about {blocks * free // size_bytes} would fit"
        )


def room(config: ModelConfig, engine: EngineConfig, blocks: CacheBlocks) -> int:
    """Most tokens of one request, prompt and answer, that the cache holds too."""
    full = [
        pool.count * blocks.block_size
        for pool, group in zip(blocks.pools, blocks.groups, strict=True)
        if group.reach == "full"
    ]
    return min([longest(config, engine), *full])


def make_graphs(
    model: GPT, engine: EngineConfig, cache: PagedCache, groups: Sequence[Group]
) -> DecodeGraphs | None:
    """Graphs of decoding steps, on a GPU and for a model that they fit."""
    if not (engine.cuda_graphs and flash_fits(model.config, cache, groups) and can_capture(model.config)):
        return None
    return DecodeGraphs(model, cache, groups, engine.max_batch, longest(model.config, engine))


def make_proposer(model: GPT, engine: EngineConfig) -> "Proposer | None":
    """What guesses tokens, by the configuration."""
    if engine.speculate == "auto":
        from blixt.llm.engine.speculative_auto import AutoProposer

        return AutoProposer(k=engine.speculate_tokens) if guesses_may_pay(model, engine) else None
    if engine.speculate == "ngram":
        from blixt.llm.engine.speculative import NgramProposer

        return NgramProposer(k=engine.speculate_tokens)
    return None if isinstance(engine.speculate, str) else engine.speculate


def guesses_may_pay(model: GPT, engine: EngineConfig) -> bool:
    """Whether a step's rows beyond the first ones are cheap, as far as that was measured.

    Not so where every row visits experts of its own or weights are unpacked for each row; on a GPU guesses
    would forgo the captured graphs. Checking several tokens at once rounds otherwise than one by one.
    """
    weight = model.embed.weight
    plain = all(type(m.up) is nn.Linear for m in model.modules() if isinstance(m, MLP))
    dense = plain and all(spec.mlp != "moe" for spec in model.config.specs)
    return (
        dense and not engine.batch_invariant and weight.device.type == "cpu" and weight.dtype == torch.float32
    )


def make_speculation_stats(proposer: "Proposer | None") -> "SpeculationStats | None":
    """Counts of guessed tokens, when something guesses."""
    if proposer is None:
        return None
    from blixt.llm.engine.speculative import SpeculationStats

    return SpeculationStats()
