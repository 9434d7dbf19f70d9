"""Attention over the paged cache: a flat batch of tokens of many requests, each reading its own blocks.

The batch has one row a token, whoever it belongs to. Every layer first writes all rows' keys and values into
their blocks, then each request's rows read theirs. This is the way for a CPU, and for what the GPU's kernel
cannot do (soft caps, single precision); `paged_cuda` has the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blixt.llm.attention import absorb, release
from blixt.llm.config import LayerSpec
from blixt.llm.engine.blocks_tables import Group
from blixt.llm.engine.paged_cache import PagedCache

MASK_ELEMENTS = 1 << 23
"""A query piece times what it sees is at most this many, so that a long context makes no huge mask."""


@dataclass(frozen=True, slots=True)
class Span:
    """A request's part of a step.

    Attributes:
        start: Position of its first row.
        count: Number of rows.
        blocks: Its block numbers, for each group.
    """

    start: int
    count: int
    blocks: Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class View:
    """What some rows read of one group's layers.

    Attributes:
        rows: Which rows of the batch.
        first: The first token's place in the flattened cache when the blocks are consecutive, else -1.
        blocks: The blocks when they are not.
        skip: Tokens of the first block that are not seen.
        length: Tokens that are read.
        mask: (rows, length), True where a row may look; None when `causal` says it or all is seen.
        causal: Each row sees the tokens up to its own, counted from the first one.
    """

    rows: slice
    first: int
    blocks: Tensor | None
    skip: int
    length: int
    mask: Tensor | None
    causal: bool

    def read(self, part: Tensor) -> Tensor:
        """Tokens (length, ...) of a layer's keys or values (blocks, block size, ...)."""
        if self.blocks is None:
            return part.flatten(0, 1)[self.first : self.first + self.length]
        return part.index_select(0, self.blocks).flatten(0, 1)[self.skip : self.skip + self.length]


class Paged:
    """The attention context of a step.

    Args:
        cache: The blocks.
        groups: Layers by reach, as in the cache.
        spans: The requests' parts, in the order of their rows.
        positions: Of each row, (N,).
        lengths: Of each row's request, for rope factors that depend on it, (N,).
    """

    def __init__(
        self,
        cache: PagedCache,
        groups: Sequence[Group],
        spans: Sequence[Span],
        positions: Tensor,
        lengths: Tensor,
    ) -> None:
        self.cache = cache
        self.positions = positions
        self.lengths: int | Tensor = lengths
        device = positions.device
        self._slots = [slots(spans, g, cache.block_size, len(positions), device) for g in range(len(groups))]
        self._views = [views(spans, g, group, cache.block_size, device) for g, group in enumerate(groups)]

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
        """See `Context.attend`: writes k and v (N, G, C) into the cache, then attends from q (N, H, C)."""
        group = self.cache.group_of[layer]
        keys, values = self.cache.parts[layer]
        keys.flatten(0, 1).index_copy_(0, self._slots[group], k)
        values.flatten(0, 1).index_copy_(0, self._slots[group], v)
        if softcap or sinks is not None:
            parts = [
                _attend_plainly(q[view.rows], view.read(keys), view.read(values), view, scale, softcap, sinks)
                for view in self._views[group]
            ]
        else:
            parts = _attend_all(q, keys, values, self._views[group], scale)
        return _padded(parts, q)

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
        """See `Context.attend_latent`: only latents are cached, and all heads attend to them directly."""
        group = self.cache.group_of[layer]
        (cache,) = self.cache.parts[layer]
        cache.flatten(0, 1).index_copy_(0, self._slots[group], torch.cat((latent, k_rope), dim=-1))
        queries, matrices = absorb(q, kv_b, k_rope.shape[-1])
        parts: list[Tensor] = []
        for view in self._views[group]:
            keys = view.read(cache).unsqueeze(1)  # S 1 R+rope
            values = keys[..., : latent.shape[-1]]
            parts.append(attend_view(queries[view.rows], keys, values, view, scale, softcap, sinks))
        return release(_padded(parts, q), matrices)

    def finish(self) -> None:
        """Nothing to do: the scheduler counts the tokens."""


def _padded(parts: list[Tensor], rows: Tensor) -> Tensor:
    """One after the other what the requests' rows became, and zeros for rows of no request."""
    extra = len(rows) - sum(len(part) for part in parts)
    if extra:
        parts.append(parts[0].new_zeros((extra, *parts[0].shape[1:])))
    return torch.cat(parts)


def _attend_all(q: Tensor, keys: Tensor, values: Tensor, seen: Sequence[View], scale: float) -> list[Tensor]:
    """What each view's rows of q (N, H, C) become, reading a layer's keys and values of all blocks.

    Most views of a step are single rows over consecutive blocks. There is nothing to choose for those, and
    each operation saved counts: there are as many of them as requests times layers.
    """
    heads, groups, width = q.shape[1], keys.shape[2], keys.shape[3]
    rows = torch.unbind(q.reshape(len(q), 1, groups, heads // groups, width))
    token = groups * width
    found: list[Tensor] = []
    for view in seen:
        if view.blocks is not None or view.rows.stop - view.rows.start > 1:
            found.append(
                attend_view(q[view.rows], view.read(keys), view.read(values), view, scale, 0.0, None)
            )
            continue
        row: int = view.rows.start
        shape, stride, start = (1, groups, view.length, width), (0, width, token, 1), view.first * token
        y = F.scaled_dot_product_attention(
            rows[row],
            keys.as_strided(shape, stride, start),
            values.as_strided(shape, stride, start),
            scale=scale,
        )
        found.append(y.view(1, heads, width))
    return found


def attend_view(
    q: Tensor, k: Tensor, v: Tensor, view: View, scale: float, softcap: float, sinks: Tensor | None
) -> Tensor:
    """Attend from rows q (T, H, C) to the tokens k and v (S, G, C) they see; gives (T, H, C).

    Queries of heads that share keys become more rows of one product: keys are never repeated.
    """
    rows, heads, width = q.shape
    groups = k.shape[1]
    if softcap or sinks is not None:
        return _attend_plainly(q, k, v, view, scale, softcap, sinks)
    if rows == 1:
        grouped = q.view(1, groups, heads // groups, width)
        y = F.scaled_dot_product_attention(
            grouped, k.transpose(0, 1)[None], v.transpose(0, 1)[None], scale=scale
        )
        return y.reshape(1, heads, -1)
    y = F.scaled_dot_product_attention(
        q.transpose(0, 1)[None],
        k.transpose(0, 1)[None],
        v.transpose(0, 1)[None],
        attn_mask=view.mask,
        is_causal=view.causal,
        scale=scale,
        enable_gqa=heads != groups,
    )
    return y[0].transpose(0, 1)


def _attend_plainly(
    q: Tensor, k: Tensor, v: Tensor, view: View, scale: float, softcap: float, sinks: Tensor | None
) -> Tensor:
    """`attend_view` with soft-capped scores or sinks, learned logits that take their share of the weights."""
    rows, heads, width = q.shape
    groups = k.shape[1]
    shape = (groups, heads // groups, rows, k.shape[0])
    queries = q.view(rows, groups, -1, width).permute(1, 2, 0, 3).reshape(groups, -1, width)
    scores = (queries @ k.permute(1, 2, 0)).float().mul_(scale)
    if softcap:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.view(shape)
    mask = view.mask
    if view.causal:
        mask = torch.ones(shape[2:], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    if sinks is not None:
        extra = sinks.float().view(groups, -1, 1, 1).expand(*shape[:3], 1)
        weights = torch.cat((scores, extra), -1).softmax(-1)[..., :-1]
    else:
        weights = scores.softmax(-1)
    y = weights.to(v.dtype).reshape(groups, -1, shape[3]) @ v.transpose(0, 1)
    return y.view(*shape[:3], -1).permute(2, 0, 1, 3).reshape(rows, heads, -1)


def slots(spans: Sequence[Span], group: int, block_size: int, rows: int, device: torch.device) -> Tensor:
    """Where each row's key goes in a flattened cache, (rows,); rows of no request go to block 0."""
    places = [
        span.blocks[group][position // block_size] * block_size + position % block_size
        for span in spans
        for position in range(span.start, span.start + span.count)
    ]
    return torch.tensor(places + [0] * (rows - len(places)), device=device)


def views(
    spans: Sequence[Span], number: int, group: Group, block_size: int, device: torch.device
) -> list[View]:
    """What each request's rows read, long pieces with much behind them cut so that masks stay small."""
    found: list[View] = []
    row = 0
    for span in spans:
        start, end = span.start, span.start + span.count
        while start < end:
            seen = end - group.first(start)
            count = min(end - start, max(1, MASK_ELEMENTS // seen))
            rows = slice(row, row + count)
            found.append(_view(span.blocks[number], group, start, count, rows, block_size, device))
            row, start = row + count, start + count
    return found


def _view(
    blocks: Sequence[int], group: Group, start: int, count: int, rows: slice, size: int, device: torch.device
) -> View:
    end = start + count
    low = group.first(start)
    ids = blocks[low // size : -(-end // size)]
    first = ids[0] * size + low % size
    together = all(b == a + 1 for a, b in pairwise(ids))
    causal = count > 1 and low == start
    mask = None
    if count > 1 and not (causal and group.first(end - 1) == low):
        causal = False
        mask = visible(group, start, end, low).to(device)
    gather = None if together else torch.tensor(ids, device=device)
    return View(rows, first if together else -1, gather, low % size, end - low, mask, causal)


def visible(group: Group, start: int, end: int, low: int) -> Tensor:
    """Which of the positions from `low` each of the positions from `start` sees, (end - start, end - low)."""
    queries = torch.arange(start, end)[:, None]
    keys = torch.arange(low, end)
    seen = keys <= queries
    if group.reach == "sliding":
        seen &= keys > queries - group.window
    elif group.reach == "chunked":
        seen &= keys >= queries // group.window * group.window
    return seen
