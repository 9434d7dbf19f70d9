"""Two ways to attend to the latents of MLA (DeepSeek-V2, arXiv:2405.04434).

Written out (`expand`) it is ordinary attention, cheapest for many queries. Or the matrix from latent to keys
and values is moved over to the query and the output (`absorb`, `release`): then all heads attend to the
latents themselves as if they were one shared key and value, cheapest for few queries and a long past, and
nothing but the latents needs a cache.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn


def expand(latent: Tensor, k_rope: Tensor, kv_b: nn.Module, heads: int, width: int) -> tuple[Tensor, Tensor]:
    """Keys (..., H, nope + rope) and values (..., H, V) from latents (..., R) and turned keys (..., rope).

    Args:
        latent: Normalised latents.
        k_rope: The key all heads share.
        kv_b: From R to H * (nope + V).
        heads: Number of heads, H.
        width: Of a query and key, nope + rope.
    """
    nope = width - k_rope.shape[-1]
    k, v = kv_b(latent).unflatten(-1, (heads, -1)).tensor_split((nope,), dim=-1)
    shared = k_rope.unsqueeze(-2).expand(*k.shape[:-1], -1)
    return torch.cat((k, shared), dim=-1), v


def absorb(q: Tensor, kv_b: nn.Module, rope: int) -> tuple[Tensor, Tensor]:
    """Queries (..., H, R + rope) that meet `cat(latent, k_rope)` directly, and the matrices for `release`.

    Args:
        q: (..., H, nope + rope).
        kv_b: From R to H * (nope + V).
        rope: Width of the turned part.
    """
    nope = q.shape[-1] - rope
    up = plain_weight(kv_b, q)
    up = up.view(q.shape[-2], -1, up.shape[-1])  # H nope+V R
    q_latent = torch.einsum("...hn,hnr->...hr", q[..., :nope], up[:, :nope])
    return torch.cat((q_latent, q[..., nope:]), dim=-1), up[:, nope:]


def release(y: Tensor, values: Tensor) -> Tensor:
    """Heads' mixtures of latents (..., H, R) as values (..., H, V); `values` (H, V, R) is from `absorb`."""
    return torch.einsum("...hr,hvr->...hv", y, values)


def plain_weight(linear: nn.Module, like: Tensor) -> Tensor:
    """The matrix (out, in) a layer multiplies with, also when it is quantised or has an adapter."""
    if type(linear) is nn.Linear:
        return linear.weight
    width = cast("Any", linear).in_features
    return linear(torch.eye(width, dtype=like.dtype, device=like.device)).mT
