"""gpt-oss: sinks, biases everywhere, experts with a clamped SwiGLU."""

from dataclasses import dataclass

from torch import Tensor

from blixt.llm.config import ModelConfig
from blixt.llm.families.base import Family, Key, activation, sizes
from blixt.llm.families.keys import Json
from blixt.llm.families.llama import AttentionBias
from blixt.llm.families.parts import Experts, Roped, Windows, every
from blixt.llm.families.ropes import Rope
from blixt.llm.families.tables import ENDS, LAYER, OURS, PRE_NORMS, attention, fused, linear
from blixt.llm.weights.rules import Alternate, Chain, Rule, RuleTable, Transpose


@dataclass(frozen=True)
class Contiguous:
    """Every tensor in memory of its own, row after row: grouped products take no strides of two."""

    def load(self, theirs: list[Tensor]) -> list[Tensor]:
        """The tensors, copied where they have gaps."""
        return [tensor.contiguous() for tensor in theirs]

    def save(self, ours: list[Tensor]) -> list[Tensor]:
        """The same tensors."""
        return ours


FIXED: Json = {
    "score": "softmax_topk",
    "normalise": False,
    "router_bias": True,
    "expert_bias": True,
    "act": "swiglu_clamped",
}


def gpt_oss_rules(config: ModelConfig) -> RuleTable:
    """Experts lie in one tensor (experts, in, out), gate and up in turn. MXFP4 is undone by the reader."""
    inside = "mlp.experts."
    return [
        *ENDS,
        *PRE_NORMS,
        *attention(config),
        Rule(OURS + "attn.sinks", LAYER + "self_attn.sinks"),
        *linear("mlp.router", "mlp.router", bias=True),
        fused(
            (inside + "gate", inside + "up"),
            inside + "gate_up_proj",
            Chain(Transpose(1, 2), Alternate(2, dim=1), Contiguous()),
        ),
        fused(
            (inside + "gate_bias", inside + "up_bias"),
            inside + "gate_up_proj_bias",
            Chain(Alternate(2, dim=1), Contiguous()),
        ),
        Rule(OURS + inside + "down", LAYER + inside + "down_proj", Transpose(1, 2)),
        Rule(OURS + inside + "down_bias", LAYER + inside + "down_proj_bias"),
    ]


GPT_OSS = Family(
    "gpt_oss",
    "GptOssForCausalLM",
    (*sizes(epsilon=1e-5, num_key_value_heads=8), Key("head_dim", "head_dim", 64, null=0), activation()),
    gpt_oss_rules,
    (
        AttentionBias(default=True),
        Roped(Rope(150_000.0)),
        Windows(128, every(2)),
        Experts(
            "num_local_experts",
            FIXED,
            width="",
            keys=(("swiglu_alpha", "alpha", 1.702), ("swiglu_limit", "limit", 7.0)),
            top_k=4,
        ),
    ),
    {"sinks": True},
    {"experts_per_token": (), "initial_context_length": ()},
)

FAMILIES = (GPT_OSS,)
