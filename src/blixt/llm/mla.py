"""Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434).

A token leaves one latent of width R and one turned key in the cache; keys and values of all heads are made
from them by one matrix, `kv_b`; how the context does that is told in `blixt.llm.attention.latent`.
"""

import torch
from torch import Tensor, nn

from blixt.llm.attention.base import Context
from blixt.llm.norms import make_norm
from blixt.llm.rope import rotate
from blixt.llm.specs import LayerSpec, MLASpec


class LatentAttention(nn.Module):
    """Attention whose keys and values come from a latent.

    Args:
        d: Width of the residual stream.
        heads: Number of heads.
        mla: Widths.
        layer: Index, handed to the context.
        spec: The layer.
        bias: Biases in the layers down to the latents.
        out_bias: Bias in the output layer.
        softcap: Of the scores; 0 means none.
    """

    def __init__(
        self,
        d: int,
        heads: int,
        mla: MLASpec,
        layer: int,
        spec: LayerSpec,
        *,
        bias: bool,
        out_bias: bool,
        softcap: float,
    ) -> None:
        super().__init__()
        self.mla, self.layer, self.spec, self.softcap = mla, layer, spec, softcap
        width = mla.nope_dim + mla.rope_dim
        if mla.q_rank:
            self.q_a = nn.Linear(d, mla.q_rank, bias=bias)
            self.q_a_norm = make_norm("rms", mla.q_rank, mla.norm_eps)
            self.q_b = nn.Linear(mla.q_rank, heads * width, bias=False)
        else:
            self.q = nn.Linear(d, heads * width, bias=False)
        self.kv_a = nn.Linear(d, mla.kv_rank + mla.rope_dim, bias=bias)
        self.kv_a_norm = make_norm("rms", mla.kv_rank, mla.norm_eps)
        self.kv_b = nn.Linear(mla.kv_rank, heads * (mla.nope_dim + mla.v_dim), bias=False)
        self.out = nn.Linear(heads * mla.v_dim, d, bias=out_bias)

    def forward(self, x: Tensor, tokens: Tensor, ctx: Context, turn: tuple[Tensor, Tensor] | None) -> Tensor:
        """Map (..., D) to (..., D); `turn` holds cosine and sine of the tokens' positions."""
        mla = self.mla
        q = self.q_b(self.q_a_norm(self.q_a(x))) if mla.q_rank else self.q(x)
        q = q.unflatten(-1, (-1, mla.nope_dim + mla.rope_dim))  # ... H nope+rope
        latent, k_rope = self.kv_a(x).split((mla.kv_rank, mla.rope_dim), dim=-1)
        latent = self.kv_a_norm(latent)  # ... R
        if turn is not None and self.spec.rope is not None:
            pairs = self.spec.rope.interleaved
            q_nope, q_rope = q.split((mla.nope_dim, mla.rope_dim), dim=-1)
            q = torch.cat((q_nope, rotate(q_rope, *turn, pairs)), dim=-1)
            k_rope = rotate(k_rope.unsqueeze(-2), *turn, pairs).squeeze(-2)
        y = ctx.attend_latent(
            self.layer,
            self.spec,
            q,
            latent,
            k_rope,
            self.kv_b,
            scale=self.spec.query_scale,
            softcap=self.softcap,
        )
        return self.out(y.flatten(-2))
