"""The paged cache itself: tensors of blocks for every layer, and how many blocks the memory holds."""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from blixt.llm.config import LayerSpec, ModelConfig
from blixt.llm.engine.blocks_tables import Group, blocks_needed


def cache_groups(config: ModelConfig) -> tuple[Group, ...]:
    """The model's layers, grouped by how far back they look."""
    layers: dict[tuple[str, int], list[int]] = {}
    for index, spec in enumerate(config.specs):
        layers.setdefault(_reach(spec), []).append(index)
    return tuple(Group(tuple(members), *_reach(config.specs[members[0]])) for members in layers.values())


def _reach(spec: LayerSpec) -> tuple[Literal["full", "sliding", "chunked"], int]:
    if spec.attn == "sliding" or spec.attn == "chunked":
        return spec.attn, spec.window
    return "full", 0


def token_shapes(config: ModelConfig, spec: LayerSpec) -> tuple[tuple[int, ...], ...]:
    """What a layer keeps of one token: a key and a value for each KV head, or (MLA) one latent."""
    if spec.attn == "mla":
        assert config.mla is not None
        return ((config.mla.kv_rank + config.mla.rope_dim,),)
    return ((config.kv_heads, config.head_dim),) * 2


def block_bytes(config: ModelConfig, group: Group, block_size: int, dtype: torch.dtype) -> int:
    """Memory of one block of a group, over all its layers."""
    numbers = sum(
        torch.Size(shape).numel()
        for layer in group.layers
        for shape in token_shapes(config, config.specs[layer])
    )
    return numbers * block_size * dtype.itemsize


class PagedCache:
    """Keys and values of all layers in blocks.

    Block 0 of every layer belongs to nobody: rows that only pad a batch write there.

    Args:
        config: The model's shape.
        groups: Its layers by reach.
        counts: Blocks of each group, block 0 not counted.
        block_size: Tokens in a block.
        dtype: Of keys and values.
        device: Where they lie.
    """

    def __init__(
        self,
        config: ModelConfig,
        groups: Sequence[Group],
        counts: Sequence[int],
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.block_size = block_size
        self.group_of = [0] * config.layers
        self.parts: list[tuple[Tensor, ...]] = [()] * config.layers
        for number, (group, count) in enumerate(zip(groups, counts, strict=True)):
            for layer in group.layers:
                self.group_of[layer] = number
                self.parts[layer] = tuple(
                    torch.empty((count + 1, block_size, *shape), dtype=dtype, device=device)
                    for shape in token_shapes(config, config.specs[layer])
                )
        for part in self:
            part[0].zero_()

    def __iter__(self) -> Iterator[Tensor]:
        """Every tensor of the cache."""
        return (part for parts in self.parts for part in parts)

    @property
    def size_bytes(self) -> int:
        """Memory it takes when every block was touched."""
        return sum(part.nbytes for part in self)


def block_counts(
    config: ModelConfig,
    groups: Sequence[Group],
    block_size: int,
    dtype: torch.dtype,
    *,
    tokens: int,
    batch: int,
    step: int,
    room_bytes: int,
) -> tuple[int, ...]:
    """Blocks of each group for a number of requests, or as many as fit into the memory.

    Layers with a window need few blocks for each request; what they do not take goes to the others.

    Args:
        config: The model's shape.
        groups: Its layers by reach.
        block_size: Tokens in a block.
        dtype: Of keys and values.
        tokens: Longest request.
        batch: Requests at once.
        step: Most tokens in a step.
        room_bytes: Memory there is.
    """
    sizes = [block_bytes(config, group, block_size, dtype) for group in groups]
    lone = [blocks_needed(group, tokens, step, block_size) for group in groups]
    share = batch
    while share > 1 and share * sum(n * size for n, size in zip(lone, sizes, strict=True)) > room_bytes:
        share -= 1
    counts = [n * share for n in lone]
    spent = sum(n * size for n, size in zip(counts, sizes, strict=True))
    if share > 1 or spent <= room_bytes:
        return tuple(counts)
    # Not even one request of full length fits: shorter ones shall.
    windows = sum(n * s for n, s, g in zip(lone, sizes, groups, strict=True) if g.reach != "full")
    full = sum(s for s, g in zip(sizes, groups, strict=True) if g.reach == "full")
    fit = max(1, (room_bytes - windows) // full) if full else 1
    return tuple(min(n, fit) if g.reach == "full" else n for n, g in zip(lone, groups, strict=True))
