"""Sequences from their first token on, without a cache: training on whole rows, or scoring."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blixt.llm.attention.base import first_seen
from blixt.llm.attention.intervals import Intervals, interval_attention, intervals
from blixt.llm.attention.latent import expand
from blixt.llm.specs import LayerSpec


class Causal:
    """Each row of (B, T), or a flat (T,), is one sequence from position 0; every token sees the past.

    Full attention goes through PyTorch's fused kernel. Windows and chunks are computed in bands, so that
    they cost what they see: nothing of size T x T is allocated.

    Args:
        tokens: Ids, (B, T) or (T,); only their shape and device count.
    """

    def __init__(self, tokens: Tensor) -> None:
        self.lengths: int | Tensor = tokens.shape[-1]
        self.positions = torch.arange(tokens.shape[-1], device=tokens.device).expand(tokens.shape)
        self._plans: dict[tuple[str, int], Intervals] = {}

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
        if q.dim() == 3:
            one = self.attend(
                layer, spec, q[None], k[None], v[None], scale=scale, softcap=softcap, sinks=sinks
            )
            return one[0]
        count = q.shape[1]
        banded = spec.attn in ("sliding", "chunked") and spec.window < count
        if not banded and not softcap and sinks is None:
            return fused(q, k, v, scale=scale)
        kind = (spec.attn, spec.window) if banded else ("full", 0)
        if kind not in self._plans:
            line = torch.arange(count, device=q.device)
            first = first_seen(spec, line) if banded else torch.zeros_like(line)
            self._plans[kind] = intervals(first, line, count)
        return interval_attention(q, k, v, self._plans[kind], scale=scale, softcap=softcap, sinks=sinks)

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
        """See `Context.attend_latent`: keys and values are made in full, which costs least in training."""
        k, v = expand(latent, k_rope, kv_b, q.shape[-2], q.shape[-1])
        return self.attend(layer, spec, q, k, v, scale=scale, softcap=softcap, sinks=sinks)

    def finish(self) -> None:
        """Nothing to count."""


def fused(q: Tensor, k: Tensor, v: Tensor, *, scale: float, causal: bool = True) -> Tensor:
    """PyTorch's attention kernel on (B, T, H, C), (B, S, G, C), (B, S, G, V); gives (B, T, H, V)."""
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    width, value_width = q.shape[-1], v.shape[-1]
    if value_width < width:  # the kernel wants one width for all: latent attention has narrower values
        v = F.pad(v, (0, width - value_width))
    if width < value_width:
        q, k = F.pad(q, (0, value_width - width)), F.pad(k, (0, value_width - width))
    y = F.scaled_dot_product_attention(
        q, k, v, is_causal=causal and q.shape[2] > 1, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
    )
    return y[..., :value_width].transpose(1, 2)
