"""FlexAttention on CUDA for what no ready kernel takes: softcaps, and sinks that are trained.

`torch.nn.attention.flex_attention` compiles one kernel for a score's change and a mask of blocks. The blocks
are made from intervals directly; asking torch for them would allocate T x T.
"""

from functools import cache
from typing import Any, cast

import torch
from torch import Tensor

from blixt.llm.attention.intervals import Intervals

BLOCK = 128


def flex_takes(q: Tensor, v: Tensor, seen: Intervals) -> bool:
    """Whether the kernel can compute this: CUDA, one pattern for all rows, heads of a usual width."""
    return q.is_cuda and seen.first.dim() == 1 and seen.plain and min(q.shape[-1], v.shape[-1]) >= 16


def block_mask(seen: Intervals, keys: int) -> Any:
    """Intervals as a `BlockMask`: which blocks of 128 keys a block of 128 queries sees, in part or whole.

    Args:
        seen: One row of intervals, `first` and `last` of shape (T,).
        keys: Number of keys.
    """
    from torch.nn.attention.flex_attention import BlockMask

    first, last, device = seen.first, seen.last, seen.first.device
    bounds = _block_bounds(first.cpu(), last.cpu())  # queries' blocks, 4
    block = torch.arange(-(-keys // BLOCK))
    low, high, inner_low, inner_high = (column[:, None] for column in bounds.unbind(1))
    touched = (block >= low // BLOCK) & (block <= high // BLOCK)
    whole = (block * BLOCK >= inner_low) & ((block + 1) * BLOCK - 1 <= inner_high)
    whole &= (block + 1) * BLOCK <= keys

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key >= first[query]) & (key <= last[query])

    make: Any = BlockMask.from_kv_blocks
    return make(
        *_listed(touched & ~whole, device),
        *_listed(touched & whole, device),
        BLOCK_SIZE=BLOCK,
        mask_mod=sees,
        seq_lengths=(first.shape[0], keys),
    )


def _block_bounds(first: Tensor, last: Tensor) -> Tensor:
    """Of each block of queries: lowest first, highest last, highest first, lowest last key."""
    parts = zip(torch.split(first, BLOCK), torch.split(last, BLOCK), strict=True)
    rows = [torch.stack((f.min(), n.max(), f.max(), n.min())) for f, n in parts]
    return torch.stack(rows)


def _listed(chosen: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Counts (1, 1, queries' blocks) and indices (1, 1, queries' blocks, keys' blocks), chosen ones first."""
    order = chosen.int().argsort(dim=1, descending=True, stable=True)
    return chosen.sum(1).int()[None, None].to(device), order.int()[None, None].to(device)


def flex(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Any,
    *,
    scale: float,
    softcap: float = 0.0,
    sinks: Tensor | None = None,
) -> Tensor:
    """Attention of (B, T, H, C) to (B, S, G, C) and (B, S, G, V) under a mask from `block_mask`.

    Returns:
        (B, T, H, V).
    """
    from torch.nn.attention.flex_attention import AuxRequest

    def cap(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap)

    kernel = _compiled() if q.is_cuda else _plain()
    out = kernel(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        score_mod=cap if softcap else None,
        block_mask=mask,
        scale=scale,
        enable_gqa=q.shape[2] != k.shape[2],
        return_aux=None if sinks is None else AuxRequest(lse=True),
    )
    if sinks is None:
        return out.transpose(1, 2)
    # The sink's share of the softmax, taken off afterwards; its gradient flows through the log-sum-exp.
    y, lse = out[0].transpose(1, 2), out[1].lse.transpose(1, 2)
    return y * torch.sigmoid(lse - sinks.float()).unsqueeze(-1).to(y.dtype)


def _plain() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return flex_attention


@cache
def _compiled() -> Any:
    return cast("Any", torch).compile(_plain())
