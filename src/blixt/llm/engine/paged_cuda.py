"""Attention over the paged cache by torch's FlashAttention, which reads blocks through their tables (CUDA).

One kernel call a layer serves all requests of a step, prompts and decoding alike. Of MLA's latents (wider
than the kernel takes), soft-capped scores and single precision it knows nothing; those go through `paged`.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cache, partial
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from blixt.llm.config import LayerSpec, ModelConfig
from blixt.llm.engine.blocks_tables import Group
from blixt.llm.engine.paged import Span, slots
from blixt.llm.engine.paged_cache import PagedCache

MAX_WIDTH = 256
PAGE_MULTIPLE = 256
"""FlashAttention 2, which torch has built in, wants pages of a multiple of this."""

Kernel = Callable[..., tuple[Tensor, Tensor]]
"""`varlen_attn` asked for the log-sum-exp: (N, H, C) and (H, N)."""


def flash_fits(config: ModelConfig, cache: PagedCache, groups: Sequence[Group]) -> bool:
    """Whether the kernel can do all of a model's layers over this cache."""
    first = next(iter(cache))
    aligned = all(g.window % cache.block_size == 0 for g in groups if g.reach == "chunked")
    return (
        first.is_cuda
        and first.dtype in (torch.float16, torch.bfloat16)
        and cache.block_size % PAGE_MULTIPLE == 0
        and aligned
        and not config.softcap_attn
        and config.head_dim <= MAX_WIDTH
        and config.head_dim % 8 == 0
        and all(spec.attn != "mla" for spec in config.specs)
        and kernel_reads_tables(first.device, first.dtype)
    )


@cache
def kernel_reads_tables(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether torch's kernel takes block tables here, found by asking it once.

    Not every build and GPU does; where `torch.nn.attention.activate_flash_attention_impl("FA3")` can be
    called before, that one does.
    """
    one = torch.ones(1, dtype=torch.int32, device=device)
    bounds = torch.arange(2, dtype=torch.int32, device=device)
    page = torch.zeros((1, PAGE_MULTIPLE, 1, 64), dtype=dtype, device=device)
    try:
        flash_kernel()(
            page[0, :1],
            page,
            page,
            bounds,
            bounds,
            1,
            1,
            scale=1.0,
            window_size=(-1, 0),
            seqused_k=one,
            block_table=torch.zeros((1, 1), dtype=torch.int32, device=device),
            num_splits=1,
        )
    except RuntimeError as error:
        warnings.warn(f"attention over blocks takes the slow way on {device}: {error}", stacklevel=2)
        return False
    return True


@dataclass(slots=True)
class Reading:
    """What the kernel needs to know of one group's layers in a step, for P pieces of rows.

    Attributes:
        slots: Where each row's key goes in the flattened cache, (N,).
        table: The blocks each piece reads, from the first in sight, (P, blocks) int32.
        used: How many tokens of them, (P,) int32.
        bounds: Rows of the pieces, laid end to end, (P + 1,) int32.
        key_bounds: The same for the tokens read, (P + 1,) int32.
        longest: Most rows of a piece.
        longest_key: Most tokens read by one.
    """

    slots: Tensor
    table: Tensor
    used: Tensor
    bounds: Tensor
    key_bounds: Tensor
    longest: int
    longest_key: int

    def copy_(self, other: "Reading") -> None:
        """Take over another's tensors, in place; they may be smaller."""
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if isinstance(mine, Tensor):
                mine[tuple(slice(0, n) for n in theirs.shape)].copy_(theirs, non_blocking=True)


class PagedFlash:
    """The attention context of a step on a GPU, see `blixt.llm.attention.Context`.

    Args:
        cache: The blocks.
        groups: Layers by reach.
        readings: One a group.
        positions: Of each row, (N,).
        lengths: Of each row's request, (N,).
        kernel: `torch.nn.attention.varlen.varlen_attn`, or what has its arguments.
    """

    def __init__(
        self,
        cache: PagedCache,
        groups: Sequence[Group],
        readings: Sequence[Reading],
        positions: Tensor,
        lengths: Tensor,
        kernel: Kernel | None = None,
    ) -> None:
        self.cache = cache
        self.positions = positions
        self.lengths: int | Tensor = lengths
        self._groups = tuple(groups)
        self._readings = tuple(readings)
        self._kernel = kernel or flash_kernel()

    def attend(
        self,
        layer: int,
        spec: LayerSpec,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        scale: float,
        softcap: float = 0.0,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """Write k and v (N, G, C) into the cache, then attend from q (N, H, C)."""
        number = self.cache.group_of[layer]
        group, reading = self._groups[number], self._readings[number]
        keys, values = self.cache.parts[layer]
        keys.flatten(0, 1).index_copy_(0, reading.slots, k)
        values.flatten(0, 1).index_copy_(0, reading.slots, v)
        y, lse = self._kernel(
            q,
            keys,
            values,
            reading.bounds,
            reading.key_bounds,
            reading.longest,
            reading.longest_key,
            scale=scale,
            window_size=(group.window - 1 if group.reach == "sliding" else -1, 0),
            enable_gqa=q.shape[1] != k.shape[1],
            seqused_k=reading.used,
            block_table=reading.table,
            num_splits=1,  # a row shall not depend on how long its neighbours are
        )
        if sinks is not None:  # the sink's share of the softmax, taken off afterwards
            y = y * torch.sigmoid(lse.mT - sinks.float()).unsqueeze(-1).to(y.dtype)
        return y

    def attend_latent(
        self,
        layer: int,
        spec: LayerSpec,
        q: Tensor,
        latent: Tensor,
        k_rope: Tensor,
        kv_b: nn.Module,
        *,
        scale: float,
        softcap: float = 0.0,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """Never called: `flash_fits` is false of a model with latents."""
        raise AssertionError("latents are wider than the kernel takes")

    def finish(self) -> None:
        """Nothing to do: the scheduler counts the tokens."""


def flash_kernel() -> Kernel:
    """torch's kernel, asked for the log-sum-exp too."""
    from torch.nn.attention.varlen import AuxRequest, varlen_attn

    return cast("Kernel", partial(varlen_attn, return_aux=AuxRequest(lse=True)))


def read_of(
    spans: Sequence[Span], number: int, group: Group, block_size: int, rows: int, device: torch.device
) -> Reading:
    """Tables and bounds of one group for a step of `rows` rows, those of no request last."""
    pieces = [piece for span in spans for piece in _pieces(span, group)]
    padding = rows - sum(span.count for span in spans)
    starts = [group.first(start) // block_size for start, _, _ in pieces]
    tables = [
        list(blocks[number][first : -(-end // block_size)])
        for first, (_, end, blocks) in zip(starts, pieces, strict=True)
    ]
    used = [end - first * block_size for first, (_, end, _) in zip(starts, pieces, strict=True)]
    counts = [end - start for start, end, _ in pieces]
    tables += [[0]] * padding
    used += [1] * padding
    counts += [1] * padding
    width = max(map(len, tables))
    table = torch.tensor([row + [0] * (width - len(row)) for row in tables], dtype=torch.int32)
    return Reading(
        slots=slots(spans, number, block_size, rows, device),
        table=table.to(device, non_blocking=True),
        used=torch.tensor(used, dtype=torch.int32).to(device, non_blocking=True),
        bounds=_bounds(counts).to(device, non_blocking=True),
        key_bounds=_bounds(used).to(device, non_blocking=True),
        longest=max(counts),
        longest_key=max(used),
    )


def _pieces(span: Span, group: Group) -> list[tuple[int, int, Sequence[Sequence[int]]]]:
    """A span's rows, cut where the first token in sight jumps (chunks)."""
    start, end = span.start, span.start + span.count
    if group.reach != "chunked":
        return [(start, end, span.blocks)]
    cuts = [start, *range((start // group.window + 1) * group.window, end, group.window), end]
    return [(a, b, span.blocks) for a, b in pairwise(cuts)]


def _bounds(counts: Sequence[int]) -> Tensor:
    return torch.tensor([0, *counts], dtype=torch.int32).cumsum(0, dtype=torch.int32)
