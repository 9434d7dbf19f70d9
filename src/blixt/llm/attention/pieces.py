"""Documents, windows and chunks cut into pieces that the fused kernel computes, each at its own size.

Only what is seen is computed: a document is a causal square, a chunk is a smaller one, a sliding window is a
band of oblongs along the diagonal, all with one mask. Nothing of size T x T exists.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from blixt.llm.specs import LayerSpec


@dataclass(frozen=True)
class Piece:
    """Queries `q0:q1` against keys `k0:k1`.

    Attributes:
        mask: True where a query sees a key, (q1 - q0, k1 - k0); None means a causal square.
    """

    q0: int
    q1: int
    k0: int
    k1: int
    mask: Tensor | None


def cut(bounds: Sequence[int], spec: LayerSpec, device: torch.device) -> tuple[Piece, ...]:
    """The pieces of one row of tokens in a layer, in order.

    Args:
        bounds: Where documents begin and the last one ends, ascending from 0.
        spec: Says which tokens are seen.
        device: Of the masks.
    """
    pieces: list[Piece] = []
    masks: dict[tuple[int, int], Tensor] = {}
    for start, end in pairwise(bounds):
        if spec.attn == "chunked":
            edges = [*range(start, end, spec.window), end]
            pieces += [Piece(a, b, a, b, None) for a, b in pairwise(edges)]
            continue
        square = min(end, start + spec.window) if spec.attn == "sliding" else end
        pieces.append(Piece(start, square, start, square, None))
        step = band_step(spec.window)
        for q0 in range(square, end, step):
            q1, k0 = min(q0 + step, end), q0 - spec.window + 1
            shape = (q1 - q0, q1 - k0)
            if shape not in masks:
                masks[shape] = _band(*shape, spec.window, device)
            pieces.append(Piece(q0, q1, k0, q1, masks[shape]))
    return tuple(pieces)


def band_step(window: int) -> int:
    """Queries in one oblong of a band: few enough that little unseen is computed, enough for the kernel."""
    return min(max(window // 2, 64), 512)


def _band(queries: int, keys: int, window: int, device: torch.device) -> Tensor:
    query = torch.arange(queries, device=device)[:, None] + window - 1
    key = torch.arange(keys, device=device)
    return (key <= query) & (key > query - window)


def fused(q: Tensor, k: Tensor, v: Tensor, *, scale: float, mask: Tensor | None = None) -> Tensor:
    """PyTorch's attention kernel.

    Args:
        q: (B, T, H, C).
        k: (B, S, G, C); each key serves H / G query heads, without being repeated.
        v: (B, S, G, V).
        scale: Multiplies the scores.
        mask: True where a query sees a key, (T, S) or (B, 1, T, S); None means causal, or all for one query.

    Returns:
        (B, T, H, V).
    """
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    width, value_width = q.shape[-1], v.shape[-1]
    if value_width < width:  # the kernel wants one width for all: latent attention has narrower values
        v = F.pad(v, (0, width - value_width))
    if width < value_width:
        q, k = F.pad(q, (0, value_width - width)), F.pad(k, (0, value_width - width))
    y = F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=mask,
        is_causal=mask is None and q.shape[2] > 1,
        scale=scale,
        enable_gqa=q.shape[1] != k.shape[1],
    )
    return y[..., :value_width].transpose(1, 2)


def fused_one(q: Tensor, k: Tensor, v: Tensor, *, scale: float, mask: Tensor | None = None) -> Tensor:
    """The kernel for one query a sequence: its grouped heads become rows, so that a key is read once for all.

    Args:
        q: (B, 1, H, C).
        k: (B, S, G, C).
        v: (B, S, G, V).
        scale: Multiplies the scores.
        mask: True where the query sees a key, (B, 1, 1, S); None means everywhere.

    Returns:
        (B, 1, H, V).
    """
    batch, _, heads, width = q.shape
    rows = q.view(batch, k.shape[2], -1, width)  # B G R C
    k, v = k.transpose(1, 2), v.transpose(1, 2)
    if v.shape[-1] == width:
        y = F.scaled_dot_product_attention(rows, k, v, attn_mask=mask, scale=scale)
    else:  # latents: the kernel wants one width, and padding a cache would copy it
        scores = torch.matmul(rows, k.mT).float() * scale
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        y = torch.matmul(scores.softmax(-1).to(v.dtype), v)
    return y.reshape(batch, 1, heads, -1)


def piecewise(q: Tensor, k: Tensor, v: Tensor, pieces: Sequence[Piece], *, scale: float) -> Tensor:
    """Attention of (B, T, H, C) to (B, T, G, C) and (B, T, G, V), piece by piece; gives (B, T, H, V)."""
    queries = torch.split(q, [piece.q1 - piece.q0 for piece in pieces], dim=1)
    spans = [(piece.k0, piece.k1) for piece in pieces]
    y = [
        fused(a, b, c, scale=scale, mask=piece.mask)
        for a, b, c, piece in zip(queries, _spans(k, spans), _spans(v, spans), pieces, strict=True)
    ]
    return torch.cat(y, dim=1)


def _spans(x: Tensor, spans: list[tuple[int, int]]) -> Sequence[Tensor]:
    """`x[:, a:b]` for each span."""
    return cast("Sequence[Tensor]", cast("Any", _Spans).apply(x, spans))


class _Spans(torch.autograd.Function):
    """Overlapping slices whose gradients are summed in one buffer, not in a buffer of full length each."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, spans: list[tuple[int, int]]) -> tuple[Tensor, ...]:
        ctx.spans, ctx.shape = spans, x.shape
        return tuple(x[:, a:b] for a, b in spans)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        total = torch.zeros(ctx.shape, dtype=grads[0].dtype, device=grads[0].device)
        for (a, b), grad in zip(ctx.spans, grads, strict=True):
            total[:, a:b] += grad
        return total, None
