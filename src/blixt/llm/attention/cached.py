"""New tokens after what a dense cache holds."""

import torch
from torch import Tensor, nn

from blixt.llm.attention.intervals import Intervals, interval_attention, intervals
from blixt.llm.attention.latent import absorb, expand, release
from blixt.llm.attention.pieces import fused, fused_one
from blixt.llm.cache import KVCache
from blixt.llm.errors import PromptError
from blixt.llm.specs import LayerSpec


class Cached:
    """Tokens (B, T) that follow the sequences in a `KVCache`, rows of different lengths allowed.

    Args:
        cache: Extended in place; its lengths grow when the model has passed all layers.
        tokens: Ids, (B, T); only shape and device count.
        counts: How many of a row's tokens count, the rest being padding behind them; None means all.

    Raises:
        PromptError: A row would outgrow the cache, or would cross the length at which the model's rotary
            embedding changes, after which all its keys have to be computed afresh.
    """

    def __init__(self, cache: KVCache, tokens: Tensor, counts: list[int] | None = None) -> None:
        batch, new = tokens.shape
        self.cache, self.new = cache, new
        self.counts = counts if counts is not None else [new] * batch
        self.ends = [seen + count for seen, count in zip(cache.lengths, self.counts, strict=True)]
        self._check()
        starts = torch.tensor(cache.lengths, device=tokens.device)
        self.starts = starts
        self.positions = starts[:, None] + torch.arange(new, device=tokens.device)
        self.lengths: int | Tensor = torch.tensor(self.ends, device=tokens.device)[:, None]
        self._even = len(set(self.ends)) == 1 and min(self.counts) == new
        if self._even:
            self.lengths = self.ends[0]
        self._plans: dict[tuple[str, int], Intervals] = {}

    def _check(self) -> None:
        cache = self.cache
        if max(self.ends) > cache.limit:
            raise PromptError(
                f"{max(self.ends)} tokens do not fit the cache of {cache.limit}: make it with more length"
            )
        for spec in cache.config.specs:
            if spec.rope is None or spec.rope.kind not in ("longrope", "dynamic"):
                continue
            bound = spec.rope.original_context
            # "longrope" changes once, "dynamic" with every token from there on.
            until = bound if spec.rope.kind == "longrope" else cache.limit
            steps = zip(cache.lengths, self.ends, strict=True)
            if any(0 < seen <= until and end > bound for seen, end in steps):
                raise PromptError(
                    f"the sequence grows over {bound} tokens, where this model's rotary embedding changes: "
                    "start again with an empty cache and all tokens"
                )

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
        """See `Context.attend`; q is (B, T, H, C)."""
        if spec.window and self.new > 1:
            k, v, seen = self._window(layer, spec, k, v)
            return interval_attention(q, k, v, seen, scale=scale, softcap=softcap, sinks=sinks)
        self._write(layer, k, v)
        keys, values = (x.transpose(1, 2) for x in self.cache.buffers(layer))  # B S G C
        return self._look(spec, q, keys, values, scale, softcap, sinks)

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
        """See `Context.attend_latent`: written out for a prompt's first tokens, absorbed afterwards."""
        self._write(layer, torch.cat((latent, k_rope), dim=-1).unsqueeze(-2), None)
        if self._even and self.ends[0] == self.new and not softcap and sinks is None:
            k, v = expand(latent, k_rope, kv_b, q.shape[-2], q.shape[-1])
            return fused(q, k, v, scale=scale)
        q, matrices = absorb(q, kv_b, k_rope.shape[-1])
        keys, values = (x.transpose(1, 2) for x in self.cache.buffers(layer))
        return release(self._look(spec, q, keys, values, scale, softcap, sinks), matrices)

    def finish(self) -> None:
        """The new tokens count as seen."""
        self.cache.lengths = self.ends

    def _look(
        self,
        spec: LayerSpec,
        q: Tensor,
        keys: Tensor,
        values: Tensor,
        scale: float,
        softcap: float,
        sinks: Tensor | None,
    ) -> Tensor:
        """Attend to a buffer that holds the new tokens already, each slot at most once in sight."""
        if self._even:
            used = self._slots_in_sight(spec, self.ends[0])
            keys, values = keys[:, :used], values[:, :used]
            if not softcap and sinks is None and (self.new == 1 or used == self.new):
                return (fused_one if self.new == 1 else fused)(q, keys, values, scale=scale)
        kind = (spec.attn, spec.window)
        if kind not in self._plans:
            last = self.positions
            if spec.window:  # one new token: all slots up to its own, or all when the ring is full
                sight = [self._slots_in_sight(spec, end) - 1 for end in self.ends]
                last = torch.tensor(sight, device=q.device)[:, None]
            self._plans[kind] = intervals(torch.zeros_like(last), last, keys.shape[1])
        return interval_attention(
            q, keys, values, self._plans[kind], scale=scale, softcap=softcap, sinks=sinks
        )

    def _slots_in_sight(self, spec: LayerSpec, end: int) -> int:
        """Slots, from the first on, that the token at position `end - 1` sees."""
        if spec.attn == "chunked":
            return (end - 1) % spec.window + 1
        return min(end, spec.window) if spec.window else end

    def _write(self, layer: int, k: Tensor, v: Tensor | None) -> None:
        """Put the rows' new keys (B, T, G, C) and values into their slots."""
        buffers = self.cache.buffers(layer)
        size = self.cache.size(layer)
        pairs = [(buffers[0], k)] + ([(buffers[1], v)] if v is not None else [])
        start = self.ends[0] - self.new
        if self._even and start + self.new <= size:
            for buffer, x in pairs:
                buffer[:, :, start : start + self.new] = x.transpose(1, 2)
            return
        counts = torch.tensor(self.counts, device=k.device)[:, None]
        line = torch.arange(self.new, device=k.device)
        rows, columns = ((line < counts) & (line >= counts - size)).nonzero(as_tuple=True)
        slots = self.positions[rows, columns] % size
        for buffer, x in pairs:
            buffer[rows, :, slots] = x[rows, columns]

    def _window(self, layer: int, spec: LayerSpec, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Intervals]:
        """The part of the past still in sight, in order, and the new tokens: keys, values, who sees which."""
        size = self.cache.size(layer)
        back = min(size - 1, max(self.cache.lengths))
        line = torch.arange(-back, 0, device=k.device)
        slots = (self.starts[:, None] + line) % size  # B back
        index = slots[:, None, :, None]
        parts: list[Tensor] = []
        for buffer, x in zip(self.cache.buffers(layer), (k, v), strict=True):
            past = buffer.gather(2, index.expand(-1, buffer.shape[1], -1, buffer.shape[3]))
            parts.append(torch.cat((past.transpose(1, 2), x), dim=1))
        self._write(layer, k, v)
        kind = (spec.attn, spec.window)
        if kind not in self._plans:
            first = (self.positions - (spec.window - 1)).clamp(min=0)
            if spec.attn == "chunked":
                first = self.positions - self.positions % spec.window
            shift = back - self.starts[:, None]
            first = torch.maximum(first + shift, shift).clamp(min=0)
            self._plans[kind] = intervals(first, self.positions + shift, back + self.new)
        return parts[0], parts[1], self._plans[kind]
