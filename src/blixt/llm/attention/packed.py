"""Whole sequences without a cache: rows of one sequence each, or documents packed end to end."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from blixt.llm.attention.base import first_seen
from blixt.llm.attention.flash import flash, flash_takes
from blixt.llm.attention.flex import block_mask, flex, flex_takes
from blixt.llm.attention.intervals import Intervals, interval_attention, intervals
from blixt.llm.attention.latent import expand
from blixt.llm.attention.pieces import Piece, cut, fused, piecewise
from blixt.llm.eager import eager
from blixt.llm.specs import LayerSpec


class Sequences:
    """What `Causal` and `Packed` share: rows (B, T) cut by the same bounds, every token sees its own past.

    Args:
        bounds: Where sequences begin in a row and the last one ends, ascending from 0 to the row's length.
        positions: Place of each token in its sequence, in the tokens' shape.
        lengths: Length of each token's sequence, one number or one a token.
        rows: Rows that these bounds hold for; the tokens are seen as (rows, width).
    """

    def __init__(self, bounds: Sequence[int], positions: Tensor, lengths: int | Tensor, rows: int) -> None:
        self.positions, self.lengths = positions, lengths
        self._bounds, self._rows, self._many = tuple(bounds), rows, len(bounds) > 2
        self._longest = max(b - a for a, b in pairwise(bounds))
        self._pieces: dict[tuple[str, int], tuple[Piece, ...]] = {}
        self._intervals: dict[tuple[str, int], Intervals] = {}
        self._block_masks: dict[tuple[str, int], Any] = {}
        self._flash_bounds: dict[int, Tensor] = {}

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
        """See `Context.attend`."""
        shape = (*q.shape[:-1], v.shape[-1])
        q, k, v = (x.reshape(self._rows, -1, *x.shape[-2:]) for x in (q, k, v))
        if softcap or sinks is not None or self._many or self._banded(spec):
            y = self._attend_in_parts(spec, q, k, v, scale, softcap, sinks)
        else:
            y = fused(q, k, v, scale=scale)
        return y.reshape(shape)

    @eager  # compiled code would be made for one batch's documents, and anew for the next
    def _attend_in_parts(
        self,
        spec: LayerSpec,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        scale: float,
        softcap: float,
        sinks: Tensor | None,
    ) -> Tensor:
        if flash_takes(q, v, softcap, sinks):
            return self._flash(spec, q, k, v, scale, sinks)
        if softcap or sinks is not None:
            return self._tiled(spec, q, k, v, scale, softcap, sinks)
        return piecewise(q, k, v, self._cut(spec, q.device), scale=scale)

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
        """See `Context.attend_latent`: keys and values are written out, which costs least in training."""
        k, v = expand(latent, k_rope, kv_b, q.shape[-2], q.shape[-1])
        return self.attend(layer, spec, q, k, v, scale=scale, softcap=softcap, sinks=sinks)

    def finish(self) -> None:
        """There is no cache to count in."""

    def _banded(self, spec: LayerSpec) -> bool:
        return spec.window > 0 and spec.window < self._longest

    def _cut(self, spec: LayerSpec, device: torch.device) -> tuple[Piece, ...]:
        kind = (spec.attn, spec.window)
        if kind not in self._pieces:
            self._pieces[kind] = cut(self._bounds, spec, device)
        return self._pieces[kind]

    def _seen(self, spec: LayerSpec, device: torch.device) -> Intervals:
        kind = (spec.attn, spec.window)
        if kind not in self._intervals:
            starts = torch.tensor(self._bounds[:-1])
            sizes = torch.tensor(self._bounds).diff()
            start = starts.repeat_interleave(sizes)  # T
            line = torch.arange(self._bounds[-1])
            first = start + first_seen(spec, line - start)
            self._intervals[kind] = intervals(first, line, self._bounds[-1], device)
        return self._intervals[kind]

    def _tiled(
        self,
        spec: LayerSpec,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        scale: float,
        softcap: float,
        sinks: Tensor | None,
    ) -> Tensor:
        """Softcaps and sinks: a compiled kernel on CUDA, tiles elsewhere."""
        seen = self._seen(spec, q.device)
        if not flex_takes(q, v, seen):
            return interval_attention(q, k, v, seen, scale=scale, softcap=softcap, sinks=sinks)
        kind = (spec.attn, spec.window)
        if kind not in self._block_masks:
            self._block_masks[kind] = block_mask(seen, k.shape[1])
        return flex(q, k, v, self._block_masks[kind], scale=scale, softcap=softcap, sinks=sinks)

    def _flash(
        self, spec: LayerSpec, q: Tensor, k: Tensor, v: Tensor, scale: float, sinks: Tensor | None
    ) -> Tensor:
        """All rows end to end; a chunk is a sequence of its own."""
        chunk = spec.window if spec.attn == "chunked" else 0
        if chunk not in self._flash_bounds:
            width = self._bounds[-1]
            edges = [
                row * width + edge
                for row in range(self._rows)
                for a, b in pairwise(self._bounds)
                for edge in range(a, b, chunk or b - a)
            ]
            edges.append(self._rows * width)
            self._flash_bounds[chunk] = torch.tensor(edges, dtype=torch.int32, device=q.device)
        longest = min(self._longest, chunk) if chunk else self._longest
        y = flash(
            q.flatten(0, 1),
            k.flatten(0, 1),
            v.flatten(0, 1),
            self._flash_bounds[chunk],
            1 << (longest - 1).bit_length(),  # few different numbers, so that compiled code is kept
            scale=scale,
            window=spec.window if spec.attn == "sliding" else 0,
            sinks=sinks,
        )
        return y.view(self._rows, -1, *y.shape[1:])


class Causal(Sequences):
    """Each row of (B, T), or a flat (T,), is one sequence from position 0.

    Args:
        tokens: Ids; only their shape and device count.
    """

    def __init__(self, tokens: Tensor) -> None:
        width = tokens.shape[-1]
        positions = torch.arange(width, device=tokens.device).expand(tokens.shape)
        super().__init__((0, width), positions, width, tokens.numel() // width)


class Packed(Sequences):
    """Documents laid end to end; each sees itself only, and its positions start at 0.

    Args:
        documents: Which document each token belongs to, (B, T) or flat (N,) integers: where the number
            changes, or a row ends, a document ends. Reading it from CUDA waits for the device once.
        device: Where the tokens are; None means where `documents` is.

    Example:
        ```python
        logits = model(tokens, Packed(torch.tensor([[0, 0, 0, 1, 1, 2]])))
        ```
    """

    def __init__(self, documents: Tensor, device: torch.device | str | None = None) -> None:
        device = documents.device if device is None else torch.device(device)
        host = documents.cpu()
        begins = torch.ones(host.shape, dtype=torch.bool)
        begins[..., 1:] = host[..., 1:] != host[..., :-1]
        starts = begins.flatten().nonzero().flatten()
        self._from_bounds([*cast("Any", starts).tolist(), host.numel()], host.shape, device)

    @classmethod
    def from_bounds(cls, bounds: Sequence[int] | Tensor, device: torch.device | str = "cpu") -> "Packed":
        """For flat tokens (N,): where documents begin and the last one ends, ascending from 0 to N."""
        edges: list[int] = cast("Any", bounds).tolist() if isinstance(bounds, Tensor) else list(bounds)
        packed = cls.__new__(cls)
        packed._from_bounds(edges, torch.Size((edges[-1],)), torch.device(device))
        return packed

    def _from_bounds(self, bounds: list[int], shape: torch.Size, device: torch.device) -> None:
        edges = torch.tensor(bounds)
        sizes = edges.diff()
        positions = torch.arange(bounds[-1]) - edges[:-1].repeat_interleave(sizes)
        lengths = sizes.repeat_interleave(sizes)
        super().__init__(bounds, positions.view(shape).to(device), lengths.view(shape).to(device), 1)
