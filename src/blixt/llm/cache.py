"""A simple cache of keys and values: one dense buffer a layer, a ring where a layer has a window.

For one sequence or a fixed batch (tests, draft models, embedding a model elsewhere). Serving many requests is
the paged cache's job, in `blixt.llm.engine`.
"""

import torch
from torch import Tensor

from blixt.llm.config import ModelConfig
from blixt.llm.specs import LayerSpec


class KVCache:
    """Keys and values of the tokens seen so far.

    A layer that sees everything keeps `length` tokens; one with a window keeps as many as it can see, the
    oldest overwritten by the newest. Latent attention keeps latents only.

    Args:
        config: The model's.
        batch: Number of sequences; they may have different lengths.
        like: A tensor whose dtype and device the buffers take.
        length: Longest sequence to hold; 0 means the model's context.

    Attributes:
        lengths: Tokens seen in each sequence.
    """

    def __init__(self, config: ModelConfig, batch: int, like: Tensor, length: int = 0) -> None:
        self.config = config
        self.limit = length or config.context
        self.lengths = [0] * batch
        self._buffers = [_buffers(config, spec, batch, self.limit, like) for spec in config.specs]

    @property
    def length(self) -> int:
        """Tokens seen in the longest sequence."""
        return max(self.lengths)

    def size(self, layer: int) -> int:
        """Tokens a layer has room for."""
        return self._buffers[layer][0].shape[2]

    def buffers(self, layer: int) -> tuple[Tensor, Tensor]:
        """A layer's keys (B, G, size, C) and values (B, G, size, V).

        In a ring, the token at position p lies in slot p % size. With latent attention keys are latents with
        the turned key behind, G is 1, and values are the latents among them, not a second buffer.
        """
        return self._buffers[layer]


def _buffers(
    config: ModelConfig, spec: LayerSpec, batch: int, limit: int, like: Tensor
) -> tuple[Tensor, Tensor]:
    # Zeros, not whatever memory held: an unseen slot has weight 0, and 0 times NaN would be NaN.
    size = min(spec.window, limit) if spec.window else limit
    if spec.attn == "mla" and config.mla is not None:
        width = config.mla.kv_rank + config.mla.rope_dim
        keys = torch.zeros(batch, 1, size, width, dtype=like.dtype, device=like.device)
        return keys, keys[..., : config.mla.kv_rank]
    shape = (batch, config.kv_heads, size, config.head_dim)
    return (
        torch.zeros(shape, dtype=like.dtype, device=like.device),
        torch.zeros(shape, dtype=like.dtype, device=like.device),
    )
