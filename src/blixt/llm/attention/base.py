"""What the model asks of attention, and the slow truth that every way of answering is tested against."""

from typing import Protocol

import torch
from torch import Tensor, nn

from blixt.llm.specs import LayerSpec


class Context(Protocol):
    """Where a batch of tokens stands, and how its queries reach their keys.

    The model hands each layer's queries, keys and values to its context and does not know whether they are
    one sequence, packed documents, or new tokens after a cache. "Tokens' shape" below is (B, T) or flat (N,).

    Attributes:
        positions: Place of each token in its sequence, in the tokens' shape.
        lengths: Length of the sequence each token belongs to, new tokens included: one number for all, or
            one a token. Some rotary embeddings depend on it.
    """

    positions: Tensor
    lengths: int | Tensor

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
        """Softmax attention of one layer.

        Args:
            layer: Its index, for caches.
            spec: Says which tokens are seen (`attn`, `window`).
            q: Queries, turned already, (..., H, C) after the tokens' shape.
            k: Keys, turned already, (..., G, C).
            v: Values, (..., G, V).
            scale: Multiplies the scores.
            softcap: Scores become `softcap * tanh(score / softcap)`; 0 means not.
            sinks: A logit a head (H,) that takes part in the softmax and carries no value.

        Returns:
            (..., H, V).
        """
        ...

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
        """Attention over latents (MLA); see `blixt.llm.attention.latent` for the two ways to do it.

        Args:
            layer: As in `attend`.
            spec: As in `attend`.
            q: Queries (..., H, nope + rope), the rope part turned.
            latent: What keys and values are made from, (..., R).
            k_rope: The turned key that all heads share, (..., rope).
            kv_b: Linear layer from R to H * (nope + V).
            scale: Multiplies the scores.
            softcap: As in `attend`.
            sinks: As in `attend`.

        Returns:
            (..., H, V).
        """
        ...

    def finish(self) -> None:
        """The model has passed all layers: a cache counts the new tokens as seen."""
        ...


def first_seen(spec: LayerSpec, positions: Tensor) -> Tensor:
    """First position of its sequence that a token sees in a layer; the last is always its own."""
    if spec.attn == "sliding":
        return (positions - (spec.window - 1)).clamp(min=0)
    if spec.attn == "chunked":
        return positions - positions % spec.window
    return torch.zeros_like(positions)


def attend_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    *,
    scale: float,
    softcap: float = 0.0,
    sinks: Tensor | None = None,
) -> Tensor:
    """Attention by the book with a full mask: slow, and right. Tests compare the fast ways with it.

    Args:
        q: (B, T, H, C).
        k: (B, S, G, C).
        v: (B, S, G, V).
        mask: True where a query sees a key, (T, S) or (B, T, S).
        scale: Multiplies the scores.
        softcap: Scores become `softcap * tanh(score / softcap)`; 0 means not.
        sinks: A logit a head (H,) that takes part in the softmax and carries no value.

    Returns:
        (B, T, H, V); zero for a query that sees nothing.
    """
    repeats = q.shape[2] // k.shape[2]
    k, v = k.repeat_interleave(repeats, dim=2), v.repeat_interleave(repeats, dim=2)
    scores = torch.einsum("bthc,bshc->bhts", q, k) * scale
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    mask = mask if mask.dim() == 3 else mask[None]
    scores = scores.masked_fill(~mask[:, None], float("-inf"))
    if sinks is not None:
        column = sinks.view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
        scores = torch.cat((scores, column), dim=-1)
    weights = scores.softmax(-1).nan_to_num(0.0)[..., : k.shape[1]]
    return torch.einsum("bhts,bshv->bthv", weights, v)


def reference_mask(spec: LayerSpec, positions: Tensor, documents: Tensor | None = None) -> Tensor:
    """The full mask of a layer, (B, T, T), from each token's position and document (B, T)."""
    keys, queries = positions[:, None, :], positions[:, :, None]
    seen = (keys <= queries) & (keys >= first_seen(spec, positions)[:, :, None])
    if documents is not None:
        seen &= documents[:, None, :] == documents[:, :, None]
    return seen
