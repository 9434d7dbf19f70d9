"""Attention in tiles, for every mask this room has, on any device, forwards and backwards.

Causal, sliding, chunked and packed attention have one thing in common: a token sees an interval of keys,
`first <= key <= last`. So one kernel serves them all. It goes over tiles of queries and keys with a running
softmax (FlashAttention-2, Dao 2023, arXiv:2307.08691), skips what no query of a tile sees, and keeps nothing
of size T x T, in the backward pass neither.

Shapes: B sequences, T queries, S keys, H query heads, G key/value heads, R = H / G query heads for each of
them, C width of a query and key, V width of a value.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from blixt.llm.attention.pieces import fused, fused_one
from blixt.llm.eager import eager

Q_TILE, K_TILE = 128, 512


@dataclass(frozen=True)
class Tile:
    """Queries `q0:q1` against keys `k0:k1`; `whole` when each of these queries sees each of these keys."""

    q0: int
    q1: int
    k0: int
    k1: int
    whole: bool


@dataclass(frozen=True)
class Intervals:
    """Which keys each query sees, `first <= key <= last`, and the tiles worth computing.

    Attributes:
        first: (T,) or (B, T).
        last: The same shape.
        rows: Tiles grouped by their queries.
        plain: Every query sees at least one key.
    """

    first: Tensor
    last: Tensor
    rows: tuple[tuple[Tile, ...], ...]
    plain: bool

    def unseen(self, tile: Tile) -> Tensor:
        """True where a query does not see a key, (B or 1, queries, keys)."""
        first = self.first[..., tile.q0 : tile.q1, None]
        last = self.last[..., tile.q0 : tile.q1, None]
        keys = torch.arange(tile.k0, tile.k1, device=first.device)
        unseen = (keys < first) | (keys > last)
        return unseen.view(-1, *unseen.shape[-2:])

    def hide(self, scores: Tensor, tile: Tile) -> Tensor:
        """Scores of a tile (B, G, R, queries, keys), in place -inf where a query does not see a key."""
        if tile.whole:
            return scores
        unseen = self.unseen(tile)
        bias = torch.zeros(unseen.shape, dtype=scores.dtype, device=scores.device)
        bias.masked_fill_(unseen, float("-inf"))
        # One pass over all heads: filling them through a broadcast mask is slower.
        return scores.add_(bias[:, None, None])


@eager
def intervals(first: Tensor, last: Tensor, keys: int, device: torch.device | str | None = None) -> Intervals:
    """Plan the tiles; reads the bounds on the host once.

    Args:
        first: First key each query sees, (T,) or (B, T) integers.
        last: Last one; below `first` when it sees none.
        keys: Number of keys.
        device: Where queries and keys are; None means where `first` is.
    """
    device = first.device if device is None else device
    count = first.shape[-1]
    host_first, host_last = first.reshape(-1, count).cpu(), last.reshape(-1, count).cpu()
    plain = bool(((host_last >= host_first) & (host_last >= 0) & (host_first < keys)).all())
    rows: list[tuple[Tile, ...]] = []
    for q0 in range(0, count, Q_TILE):
        q1 = min(q0 + Q_TILE, count)
        f, n = host_first[:, q0:q1], host_last[:, q0:q1]
        low, high = max(int(f.min()), 0), min(int(n.max()) + 1, keys)
        inner_low, inner_high = int(f.max()), int(n.min()) + 1
        tiles: list[Tile] = []
        for k0 in range(low, high, K_TILE):
            k1 = min(k0 + K_TILE, high)
            tiles.append(Tile(q0, q1, k0, k1, whole=inner_low <= k0 and k1 <= inner_high))
        rows.append(tuple(tiles) or (Tile(q0, q1, 0, 0, whole=False),))
    return Intervals(first.to(device), last.to(device), tuple(rows), plain)


def interval_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    seen: Intervals,
    *,
    scale: float,
    softcap: float = 0.0,
    sinks: Tensor | None = None,
) -> Tensor:
    """Softmax attention where each query sees an interval of the keys.

    Args:
        q: (B, T, H, C).
        k: (B, S, G, C).
        v: (B, S, G, V).
        seen: From `intervals`.
        scale: Multiplies the scores.
        softcap: Scores become `softcap * tanh(score / softcap)`; 0 means not.
        sinks: A logit a head (H,) that takes part in the softmax and carries no value.

    Returns:
        (B, T, H, V); zero for a query that sees nothing.
    """
    if not q.dtype == k.dtype == v.dtype:  # under autocast norms leave queries and keys wider than values
        q, k = q.to(v.dtype), k.to(v.dtype)
    if seen.plain and not softcap and sinks is None and not torch.is_grad_enabled():
        return _plain(q, k, v, seen, scale)
    return _apply(q, k, v, sinks, seen, scale, softcap)


def _plain(q: Tensor, k: Tensor, v: Tensor, seen: Intervals, scale: float) -> Tensor:
    """Inference without softcap and sinks: the fused kernel, tile of queries by tile of queries."""
    parts: list[Tensor] = []
    kernel = fused_one if q.shape[1] == 1 else fused
    for row in seen.rows:
        tile = Tile(row[0].q0, row[0].q1, row[0].k0, row[-1].k1, whole=all(t.whole for t in row))
        keys, values = k[:, tile.k0 : tile.k1], v[:, tile.k0 : tile.k1]
        mask = ~seen.unseen(tile).unsqueeze(1)
        parts.append(kernel(q[:, tile.q0 : tile.q1], keys, values, scale=scale, mask=mask))
    return torch.cat(parts, dim=1)


@eager
def _apply(
    q: Tensor, k: Tensor, v: Tensor, sinks: Tensor | None, seen: Intervals, scale: float, softcap: float
) -> Tensor:
    return cast("Any", _IntervalAttention).apply(q, k, v, sinks, seen, scale, softcap)


class _IntervalAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        sinks: Tensor | None,
        seen: Intervals,
        scale: float,
        softcap: float,
    ) -> Tensor:
        batch, count, heads, _ = q.shape
        groups = k.shape[2]
        out = q.new_empty(batch, count, heads, v.shape[3])
        lse = torch.empty(batch, groups, heads // groups, count, dtype=_wider(q.dtype), device=q.device)
        sink = None if sinks is None else _wide(sinks).view(1, groups, -1, 1)
        for row in seen.rows:
            y, row_lse = _row_forward(q, k, v, sink, seen, row, scale, softcap)
            at = slice(row[0].q0, row[0].q1)
            out[:, at] = _join(y)
            lse[..., at] = row_lse
        ctx.save_for_backward(q, k, v, sinks, out, lse)
        ctx.seen, ctx.scale, ctx.softcap = seen, scale, softcap
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        q, k, v, sinks, out, lse = ctx.saved_tensors
        grad = grads[0]
        groups = k.shape[2]
        dq = torch.zeros_like(q)
        dk = torch.zeros(k.shape, dtype=_wider(k.dtype), device=k.device)
        dv = torch.zeros(v.shape, dtype=_wider(q.dtype), device=v.device)
        delta = _split((_wide(grad) * _wide(out)).sum(-1, keepdim=True), groups).squeeze(-1)  # B G R T
        for row in ctx.seen.rows:
            _row_backward(ctx, q, k, v, grad, lse, delta, row, dq, dk, dv)
        dsinks = None
        if sinks is not None:
            weight = (_wide(sinks).view(1, groups, -1, 1) - lse).exp()
            dsinks = -(weight * delta).sum((0, 3)).flatten().to(sinks.dtype)
        return dq, dk.to(k.dtype), dv.to(v.dtype), dsinks, None, None, None


def _split(x: Tensor, groups: int) -> Tensor:
    """(B, t, H, C) to (B, G, R, t, C)."""
    return x.reshape(*x.shape[:2], groups, -1, x.shape[-1]).permute(0, 2, 3, 1, 4)


def _join(x: Tensor) -> Tensor:
    """(B, G, R, t, C) to (B, t, H, C)."""
    return x.permute(0, 3, 1, 2, 4).flatten(2, 3)


def _scores(q: Tensor, k: Tensor, seen: Intervals, tile: Tile, softcap: float) -> tuple[Tensor, Tensor]:
    """Scores of a tile in float32 (B, G, R, t, s), -inf where unseen, and tanh(score / cap) for its slope.

    q is (B, G, R * t, C) and scaled, k is (B, S, G, C).
    """
    keys = k[:, tile.k0 : tile.k1].permute(0, 2, 3, 1)  # B G C s
    s = _wide(torch.matmul(q, keys))
    s = s.view(*s.shape[:2], -1, tile.q1 - tile.q0, s.shape[-1])
    bent = s
    if softcap:
        bent = s.div_(softcap).tanh_()
        s = bent * softcap
    return seen.hide(s, tile), bent


def _wider(dtype: torch.dtype) -> torch.dtype:
    """At least float32."""
    return torch.promote_types(dtype, torch.float32)


def _wide(x: Tensor) -> Tensor:
    return x.to(_wider(x.dtype))


def _row_forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    sink: Tensor | None,
    seen: Intervals,
    row: tuple[Tile, ...],
    scale: float,
    softcap: float,
) -> tuple[Tensor, Tensor]:
    """One tile of queries against all tiles of keys; outputs (B, G, R, t, V), log-sum-exp (B, G, R, t)."""
    groups = k.shape[2]
    mine = _split(q[:, row[0].q0 : row[0].q1], groups)  # B G R t C
    folded = mine.flatten(2, 3) * scale
    top = folded.new_full(mine.shape[:-1], float("-inf"), dtype=_wider(q.dtype))
    if sink is not None:
        top = sink.expand_as(top).clone()
    total = torch.zeros_like(top) if sink is None else torch.ones_like(top)
    y = folded.new_zeros(*folded.shape[:3], v.shape[3], dtype=_wider(q.dtype))
    for index, tile in enumerate(row):
        if tile.k0 == tile.k1:
            continue
        s, _ = _scores(folded, k, seen, tile, softcap)
        new_top = torch.maximum(top, s.amax(-1))
        base = new_top.masked_fill(new_top == float("-inf"), 0.0)
        p = s.sub_(base.unsqueeze(-1)).exp_()
        fade = (top - base).exp()
        total = total * fade + p.sum(-1)
        values = v[:, tile.k0 : tile.k1].transpose(1, 2)  # B G s V
        part = _wide(torch.matmul(p.flatten(2, 3).to(v.dtype), values))
        y = part if index == 0 else y.mul_(fade.flatten(2, 3).unsqueeze(-1)).add_(part)
        top = new_top
    y = y.view(*mine.shape[:-1], -1) / total.masked_fill(total == 0, 1.0).unsqueeze(-1)
    return y.to(q.dtype), top + total.log()


def _row_backward(
    ctx: Any,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    grad: Tensor,
    lse: Tensor,
    delta: Tensor,
    row: tuple[Tile, ...],
    dq: Tensor,
    dk: Tensor,
    dv: Tensor,
) -> None:
    """Add one tile of queries' share to the three gradients."""
    groups, at = k.shape[2], slice(row[0].q0, row[0].q1)
    mine = _split(q[:, at], groups).flatten(2, 3) * ctx.scale  # B G Rt C
    dy = _split(grad[:, at], groups).flatten(2, 3)  # B G Rt V
    row_lse = lse[..., at].unsqueeze(-1)
    row_lse = row_lse.masked_fill(row_lse == float("-inf"), 0.0)
    mine_dq = torch.zeros_like(mine, dtype=_wider(q.dtype))
    for tile in row:
        if tile.k0 == tile.k1:
            continue
        keys, values = k[:, tile.k0 : tile.k1].transpose(1, 2), v[:, tile.k0 : tile.k1].transpose(1, 2)
        s, bent = _scores(mine, k, ctx.seen, tile, ctx.softcap)
        p = s.sub_(row_lse).exp_()  # B G R t s
        dp = _wide(torch.matmul(dy, values.transpose(2, 3))).view(p.shape)
        ds = dp.sub_(delta[..., at].unsqueeze(-1)).mul_(p)
        if ctx.softcap:
            ds.mul_(1 - bent.square())
        ds = ds.flatten(2, 3).to(q.dtype)
        mine_dq += torch.matmul(ds, keys)
        dk[:, tile.k0 : tile.k1] += torch.matmul(ds.transpose(2, 3), mine).transpose(1, 2)
        weights = p.flatten(2, 3).transpose(2, 3).to(v.dtype)
        dv[:, tile.k0 : tile.k1] += torch.matmul(weights, dy).transpose(1, 2)
    dq[:, at] = _join((mine_dq * ctx.scale).view(*delta[..., at].shape, -1))
