"""A Llama-style decoder, read top to bottom.

Shapes in comments: B sequences, T new tokens, S tokens seen so far (cached and new), H query heads,
G key/value heads, C width of a head, D width of the residual stream, V vocabulary.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blixt.llm.config import ModelConfig


def rope_table(config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every position's rotation, each (context, C).

    Rotary position embedding, Su et al. 2021 (arXiv:2104.09864), in the half-split layout of Hugging Face
    checkpoints.
    """
    steps = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    angles = torch.outer(torch.arange(config.context, dtype=torch.float32), config.rope_base**-steps)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the heads (B, H, T, C) by their positions' angles, each (T, C)."""
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


class KVCache:
    """Keys and values of the tokens seen so far, one pair of (B, G, context, C) buffers a layer.

    Args:
        config: The model's sizes.
        batch: Number of sequences; all have the same length.
        length: Longest sequence to hold; 0 means the model's context.
        like: A tensor whose dtype and device the buffers take.
    """

    def __init__(self, config: ModelConfig, batch: int, like: Tensor, length: int = 0) -> None:
        shape = (config.layers, 2, batch, config.kv_heads, length or config.context, config.head_dim)
        self.buffers = torch.empty(shape, dtype=like.dtype, device=like.device)
        self.length = 0

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write a layer's new keys and values (B, G, T, C); give all of them (B, G, S, C)."""
        end = self.length + k.shape[2]
        keys, values = self.buffers[layer]
        keys[:, :, self.length : end] = k
        values[:, :, self.length : end] = v
        return keys[:, :, :end], values[:, :, :end]


class Attention(nn.Module):
    """Causal grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        self.q = nn.Linear(config.d, config.heads * config.head_dim, bias=False)
        self.k = nn.Linear(config.d, config.kv_heads * config.head_dim, bias=False)
        self.v = nn.Linear(config.d, config.kv_heads * config.head_dim, bias=False)
        self.out = nn.Linear(config.heads * config.head_dim, config.d, bias=False)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, cache: KVCache | None
    ) -> Tensor:
        """Attend from (B, T, D) to itself and the cache; `mask` (T, S) is True where a token may look."""
        batch, new, _ = x.shape
        q = self.q(x).view(batch, new, self.heads, self.head_dim).transpose(1, 2)  # B H T C
        k = self.k(x).view(batch, new, self.kv_heads, self.head_dim).transpose(1, 2)  # B G T C
        v = self.v(x).view(batch, new, self.kv_heads, self.head_dim).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if cache is not None:
            k, v = cache.extend(self.layer, k, v)  # B G S C
        y = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            is_causal=mask is None and new > 1,
            enable_gqa=self.heads != self.kv_heads,
        )
        return self.out(y.transpose(1, 2).reshape(batch, new, -1))


class MLP(nn.Module):
    """Gated MLP with SiLU (SwiGLU, Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.d, config.d_ff, bias=False)
        self.up = nn.Linear(config.d, config.d_ff, bias=False)
        self.down = nn.Linear(config.d_ff, config.d, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """One layer: attention, then the MLP, each on a normalised copy and added back."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.attn_norm = nn.RMSNorm(config.d, eps=config.norm_eps)
        self.attn = Attention(config, layer)
        self.mlp_norm = nn.RMSNorm(config.d, eps=config.norm_eps)
        self.mlp = MLP(config)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, cache: KVCache | None
    ) -> Tensor:
        """Map (B, T, D) to (B, T, D)."""
        x = x + self.attn(self.attn_norm(x), cos, sin, mask, cache)
        return x + self.mlp(self.mlp_norm(x))


class GPT(nn.Module):
    """A decoder-only language model.

    Example:
        ```python
        model = GPT(ModelConfig(vocab=512))
        logits = model(torch.tensor([[1, 2, 3]]))  # (1, 3, 512)
        ```
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab, config.d)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        self.norm = nn.RMSNorm(config.d, eps=config.norm_eps)
        self.head = nn.Linear(config.d, config.vocab, bias=False)
        if config.tie:
            self.head.weight = self.embed.weight
        cos, sin = rope_table(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.initialise()

    @classmethod
    def empty(cls, config: ModelConfig, device: str | torch.device = "meta") -> "GPT":
        """A model whose parameters have shapes and no values yet."""
        with torch.device(device):
            return cls(config)

    @torch.no_grad()
    def initialise(self) -> None:
        """Draw fresh weights: normal of std 0.02, less for what writes to the residual stream (as GPT-2)."""
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                parameter.fill_(1.0)
                continue
            writes_residual = name.endswith(("attn.out.weight", "mlp.down.weight"))
            nn.init.normal_(
                parameter, std=0.02 / (math.sqrt(2 * self.config.layers) if writes_residual else 1.0)
            )

    def forward(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        """Score the next token after each of `tokens`.

        Args:
            tokens: Ids, (B, T) integers.
            cache: What was seen before; extended in place. Without it the sequence starts at position 0.

        Returns:
            Logits, (B, T, V).
        """
        seen = cache.length if cache is not None else 0
        new = tokens.shape[1]
        if seen + new > self.config.context:
            raise ValueError(f"{seen + new} tokens do not fit the model's context of {self.config.context}")
        cos, sin = self.cos[seen : seen + new], self.sin[seen : seen + new]
        mask = None
        if seen and new > 1:
            mask = torch.ones(new, seen + new, dtype=torch.bool, device=tokens.device).tril(seen)
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x, cos, sin, mask, cache)
        if cache is not None:
            cache.length = seen + new
        return self.head(self.norm(x))

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats of `targets` (B, T) given `tokens` (B, T)."""
        return F.cross_entropy(self(tokens).flatten(0, 1).float(), targets.flatten())
