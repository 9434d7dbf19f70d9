"""A decoder of any family, read top to bottom.

What a family has is said by `ModelConfig`, layer by layer. How tokens reach the ones before them is the
context's business (`blixt.llm.attention`): the same model runs whole sequences, packed documents and cached
requests.

Shapes in comments: "..." is the tokens' shape, (B, T) or flat (N,); H query heads, G key/value heads, C width
of a head, D width of the residual stream, F inner width of the MLP, V vocabulary.
"""

import math
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blixt.llm.attention import Cached, Causal, Context
from blixt.llm.cache import KVCache
from blixt.llm.config import ModelConfig
from blixt.llm.errors import PromptError
from blixt.llm.mla import LatentAttention
from blixt.llm.moe import MoE
from blixt.llm.norms import HeadNorm, make_norm
from blixt.llm.rope import Rope, rotate
from blixt.llm.specs import Act, LayerSpec, RopeSpec, Temperature

Turn = tuple[Tensor, Tensor]  # cosine and sine of every token's pairs, each (..., 1, pairs)

ACTIVATIONS: dict[Act, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
}
VALUE_GATE_INPUTS = 32  # nanochat's gate of value embeddings reads this many numbers of the residual stream


class Attention(nn.Module):
    """Grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245) with what families add to it."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        spec = config.specs[layer]
        self.layer, self.spec = layer, spec
        self.head_dim, self.softcap, self.clip = config.head_dim, config.softcap_attn, config.qkv_clip
        self.norm_late = config.qk_norm_late
        width, kv_width = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.q = nn.Linear(config.d, width, bias=config.qkv_bias)
        self.k = nn.Linear(config.d, kv_width, bias=config.qkv_bias)
        self.v = nn.Linear(config.d, kv_width, bias=config.qkv_bias)
        self.out = nn.Linear(width, config.d, bias=config.out_bias)
        self.qk_norm = config.qk_norm if spec.qk_norm else "none"
        if self.qk_norm != "none":
            self.q_norm = self._norm(config, config.heads)
            self.k_norm = self._norm(config, config.kv_heads)
        self.sinks = nn.Parameter(torch.zeros(config.heads)) if config.sinks else None
        if spec.value_embed:
            self.value_embed = nn.Embedding(config.vocab, kv_width)
            self.value_gate = nn.Linear(min(VALUE_GATE_INPUTS, config.d), config.kv_heads, bias=False)

    @staticmethod
    def _norm(config: ModelConfig, heads: int) -> nn.Module:
        kind = config.qk_norm_kind or config.norm
        if config.qk_norm == "per_head":
            return HeadNorm(kind, heads, config.head_dim, config.norm_eps)
        width = config.head_dim * (heads if config.qk_norm == "full" else 1)
        return make_norm(kind, width, config.norm_eps, config.norm_offset)

    def forward(self, x: Tensor, tokens: Tensor, ctx: Context, turn: Turn | None) -> Tensor:
        """Map (..., D) to (..., D); `turn` holds cosine and sine of the tokens' positions."""
        q, k, v = self.q(x), self.k(x), self.v(x)
        if self.clip:
            q, k, v = (part.clamp(-self.clip, self.clip) for part in (q, k, v))
        if self.qk_norm == "full":
            q, k = self.q_norm(q), self.k_norm(k)
        q = q.unflatten(-1, (-1, self.head_dim))  # ... H C
        k = k.unflatten(-1, (-1, self.head_dim))  # ... G C
        v = v.unflatten(-1, (-1, self.head_dim))  # ... G C
        by_head = self.qk_norm in ("head", "per_head")
        if by_head and not self.norm_late:
            q, k = self.q_norm(q), self.k_norm(k)
        if turn is not None and self.spec.rope is not None:
            q, k = rotate(q, *turn, self.spec.rope.interleaved), rotate(k, *turn, self.spec.rope.interleaved)
        if by_head and self.norm_late:
            q, k = self.q_norm(q), self.k_norm(k)
        if self.spec.temperature is not None:
            q = q * temperature(self.spec.temperature, ctx.positions).to(q.dtype)
        if self.spec.value_embed:
            gate = 2 * torch.sigmoid(self.value_gate(x[..., :VALUE_GATE_INPUTS]))  # ... G
            v = v + gate.unsqueeze(-1) * self.value_embed(tokens).unflatten(-1, (-1, self.head_dim))
        y = ctx.attend(
            self.layer,
            self.spec,
            q,
            k,
            v,
            scale=self.spec.query_scale,
            softcap=self.softcap,
            sinks=self.sinks,
        )
        return self.out(y.flatten(-2))


def temperature(spec: Temperature, positions: Tensor) -> Tensor:
    """What queries are multiplied by at their positions (...), as (..., 1, 1)."""
    steps = torch.floor((positions.float() + spec.offset) / spec.length)
    return (1 + spec.scale * torch.log1p(steps))[..., None, None]


class MLP(nn.Module):
    """Two layers around an activation, or three with a gate (SwiGLU, Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, config: ModelConfig, width: int, gated: bool) -> None:
        super().__init__()
        self.gate = nn.Linear(config.d, width, bias=config.mlp_bias) if gated else None
        self.up = nn.Linear(config.d, width, bias=config.mlp_bias)
        self.down = nn.Linear(width, config.d, bias=config.mlp_bias)
        self.act = ACTIVATIONS[config.act]

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to (..., D)."""
        if self.gate is None:
            return self.down(self.act(self.up(x)))
        h = self.act(self.gate(x))  # ... F
        if torch.is_grad_enabled():
            return self.down(h * self.up(x))
        return self.down(h.mul_(self.up(x)))  # fresh memory for a long prompt costs more than the product


class Block(nn.Module):
    """One layer: attention and an MLP, each added to the residual stream, with the family's norms."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        spec, place = config.specs[layer], config.norm_place
        self.parallel = place in ("parallel", "parallel_shared")
        self.scale = config.resid_scale
        self.attn_norm = residual_norm(config, place != "post")
        self.mlp_norm = residual_norm(config, place not in ("post", "parallel_shared"))
        self.attn_post_norm = residual_norm(config, place in ("post", "sandwich"))
        self.mlp_post_norm = residual_norm(config, place in ("post", "sandwich"))
        self.shared_norm = place == "parallel_shared"
        self.attn = attention(config, layer, spec)
        self.mlp = feed_forward(config, spec)

    def forward(self, x: Tensor, tokens: Tensor, ctx: Context, turn: Turn | None) -> Tensor:
        """Map (..., D) to (..., D)."""
        h = self.attn_norm(x)
        y = self.attn_post_norm(self.attn(h, tokens, ctx, turn))
        if self.parallel:
            y = y + self.mlp(h if self.shared_norm else self.mlp_norm(x))
            return x + self._scaled(y)
        x = x + self._scaled(y)
        return x + self._scaled(self.mlp_post_norm(self.mlp(self.mlp_norm(x))))

    def _scaled(self, y: Tensor) -> Tensor:
        return y if self.scale == 1 else y * self.scale


def residual_norm(config: ModelConfig, wanted: bool = True) -> nn.Module:
    """A norm over the residual stream, or nothing."""
    if not wanted:
        return nn.Identity()
    return make_norm(config.norm, config.d, config.norm_eps, config.norm_offset)


def attention(config: ModelConfig, layer: int, spec: LayerSpec) -> nn.Module:
    """The attention a layer asks for."""
    if spec.attn != "mla" or config.mla is None:
        return Attention(config, layer)
    return LatentAttention(
        config.d,
        config.heads,
        config.mla,
        layer,
        spec,
        bias=config.qkv_bias,
        out_bias=config.out_bias,
        softcap=config.softcap_attn,
    )


def feed_forward(config: ModelConfig, spec: LayerSpec) -> nn.Module:
    """The MLP or mixture of experts a layer asks for."""
    if spec.mlp != "moe" or config.moe is None:
        return MLP(config, spec.d_ff, gated=spec.mlp == "gated")
    moe = config.moe
    shared = MLP(config, moe.shared_d_ff, gated=True) if moe.shared_d_ff else None
    return MoE(config.d, moe, ACTIVATIONS[moe.act if moe.act in ACTIVATIONS else config.act], shared)


class GPT(nn.Module):
    """A decoder-only language model.

    Built with fresh weights on torch's default device; `GPT.empty` builds it without any.

    Args:
        config: What it looks like.

    Example:
        ```python
        model = GPT(ModelConfig(vocab=512))
        logits = model(torch.tensor([[1, 2, 3]]))  # (1, 3, 512)
        ```
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        device = torch.get_default_device()
        with torch.device("meta"):  # no value is drawn twice
            self.embed = nn.Embedding(config.vocab, config.d)
            if config.position == "learned":
                self.pos_embed = nn.Embedding(config.context, config.d)
            self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
            self.norm = residual_norm(config)
            if not config.tie:
                self.head = nn.Linear(config.d, config.vocab, bias=config.head_bias)
        self._ropes = ropes(config)
        if device.type != "meta":
            self.to_empty(device=device)
            self.initialise()

    @classmethod
    def empty(cls, config: ModelConfig, device: str | torch.device = "meta") -> "GPT":
        """A model whose parameters have shapes but no values yet."""
        with torch.device("meta"):
            model = cls(config)
        return model if torch.device(device).type == "meta" else model.to_empty(device=device)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Draw fresh weights: normal of std 0.02, less for what writes to the residual stream (as GPT-2).

        Args:
            generator: Where the draws come from; None is torch's own.
        """
        for name, parameter in self.named_parameters():
            owner, leaf = name.rpartition(".")[::2]
            if leaf.endswith(("bias", "sinks", "correction")):
                parameter.zero_()
            elif owner.endswith("norm"):
                parameter.fill_(1.0 - self.config.norm_offset)
            else:
                writes_residual = owner.endswith(("attn.out", "mlp.down", "shared.down")) or leaf == "down"
                std = 0.02 / (math.sqrt(2 * self.config.layers) if writes_residual else 1.0)
                parameter.normal_(0.0, std, generator=generator)

    def forward(self, tokens: Tensor, ctx: Context | KVCache | None = None) -> Tensor:
        """Score the next token after each of `tokens`.

        Args:
            tokens: Ids, (B, T) or flat (N,) integers.
            ctx: Where they stand, see `blixt.llm.attention`. None: each row is a sequence from its start. A
                `KVCache`: they follow what it holds.

        Returns:
            Logits, (..., V).

        Raises:
            PromptError: There are more tokens than the model's context or the cache holds.
        """
        return self.logits(self.hidden(tokens, ctx))

    def hidden(self, tokens: Tensor, ctx: Context | KVCache | None = None) -> Tensor:
        """The residual stream after the final norm, (..., D); arguments as `forward`."""
        ctx = self._context(tokens, ctx)
        x = self.embed(tokens)
        if self.config.embed_scale != 1:
            x = x * rounded(self.config.embed_scale, x.dtype)
        if self.config.position == "learned":
            x = x + self.pos_embed(ctx.positions)
        if self.config.embed_norm:
            x = F.rms_norm(x, x.shape[-1:], eps=self.config.norm_eps)
        turns = {spec: rope(ctx.positions, ctx.lengths) for spec, rope in self._ropes.items()}
        for block, spec in zip(self.blocks, self.config.specs, strict=True):
            x = block(x, tokens, ctx, None if spec.rope is None else turns[spec.rope])
        ctx.finish()
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of what `hidden` gave; call it on the rows that are needed only."""
        y = F.linear(hidden, self.embed.weight) if self.config.tie else self.head(hidden)
        if self.config.logits_scale != 1:
            y = y * self.config.logits_scale
        cap = self.config.softcap_logits
        return cap * torch.tanh(y / cap) if cap else y

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats of `targets` (B, T) given `tokens` (B, T)."""
        return F.cross_entropy(self(tokens).flatten(0, 1).float(), targets.flatten())

    def _context(self, tokens: Tensor, ctx: Context | KVCache | None) -> Context:
        if not tokens.numel():
            raise PromptError("there are no tokens: a model needs at least one")
        if ctx is None:
            longest = tokens.shape[-1]
        elif isinstance(ctx, KVCache):
            longest = ctx.length + tokens.shape[-1]
        else:
            return ctx
        if longest > self.config.context:
            raise PromptError(f"{longest} tokens do not fit the model's context of {self.config.context}")
        return Causal(tokens) if ctx is None else Cached(ctx, tokens)


def ropes(config: ModelConfig) -> dict[RopeSpec, Rope]:
    """One table of angles for each kind of rotation among the layers."""
    return {
        spec.rope: Rope(spec.rope, config.rope_width(spec)) for spec in config.specs if spec.rope is not None
    }


@cache
def rounded(value: float, dtype: torch.dtype) -> float:
    """A constant as it is in `dtype`: Gemma's embedding scale was rounded to bfloat16 when it was trained."""
    return torch.tensor(value, dtype=dtype, device="cpu").item()
