"""Phi 1, 1.5 and 2; Phi 3, 3.5, 4 and 4-mini."""

from dataclasses import dataclass

from blixt.llm.config import ModelConfig
from blixt.llm.families.base import Family, activation, sizes
from blixt.llm.families.keys import Json, Keys
from blixt.llm.families.parts import Roped, Windows
from blixt.llm.families.ropes import Rope
from blixt.llm.families.tables import ENDS, PRE_NORMS, attention, fused, fused_gated, linear, norm, plain
from blixt.llm.weights.rules import Rule, RuleTable, Skip, Split

BIASES: Json = {"qkv_bias": True, "out_bias": True, "mlp_bias": True, "head_bias": True}


@dataclass(frozen=True)
class QueryNorm:
    """`qk_layernorm` switches norms of queries and keys on.

    Attributes:
        kind: `ModelConfig.qk_norm` when it does.
    """

    kind: str = "head"

    def read(self, keys: Keys, found: Json) -> None:
        """Fill in `qk_norm`."""
        found["qk_norm"] = self.kind if keys.take("qk_layernorm", False) else "none"

    def write(self, config: ModelConfig) -> Json:
        """`qk_layernorm`."""
        return {"qk_layernorm": config.qk_norm == self.kind}


def phi_rules(config: ModelConfig) -> RuleTable:
    """One norm for attention and MLP, biases everywhere."""
    rules = [
        Rule("embed.weight", "model.embed_tokens.weight"),
        Rule("norm.weight", "model.final_layernorm.weight"),
        Rule("norm.bias", "model.final_layernorm.bias"),
        Rule("head.weight", "lm_head.weight"),
        Rule("head.bias", "lm_head.bias"),
        Skip(r".*\.rotary_emb\.inv_freq"),
        *norm("attn_norm", "input_layernorm", bias=True),
        *(
            rule
            for name in ("q", "k", "v")
            for rule in linear(f"attn.{name}", f"self_attn.{name}_proj", bias=True)
        ),
        *linear("attn.out", "self_attn.dense", bias=True),
        *plain("mlp.fc1", "mlp.fc2"),
    ]
    if config.qk_norm != "none":
        for name in ("q", "k"):
            rules += norm(f"attn.{name}_norm", f"self_attn.{name}_layernorm", bias=True)
    return rules


PHI = Family(
    "phi",
    "PhiForCausalLM",
    (*sizes("layer_norm_eps", 1e-5), activation(default="gelu_new", tanh="gelu_new")),
    phi_rules,
    (QueryNorm(), Roped(Rope(partial=0.5))),
    {**BIASES, "norm": "layer", "norm_place": "parallel_shared", "mlp": "plain"},
)


def phi3_rules(config: ModelConfig) -> RuleTable:
    """Query, key and value in one matrix, gate and up in another."""
    width, inner = config.heads * config.head_dim, config.kv_heads * config.head_dim
    return [
        *ENDS,
        *PRE_NORMS,
        fused(
            ("attn.q.weight", "attn.k.weight", "attn.v.weight"),
            "self_attn.qkv_proj.weight",
            Split((width, inner, inner)),
        ),
        *(rule for rule in attention(config) if str(rule.ours).endswith("attn.out.weight")),
        *fused_gated(config),
    ]


PHI3 = Family(
    "phi3",
    "Phi3ForCausalLM",
    (*sizes(epsilon=1e-5), activation()),
    phi3_rules,
    (Roped(Rope(bare=True)), Windows()),
    {},
    {
        "attention_bias": (False,),
        "mlp_bias": (False,),
        "lm_head_bias": (False,),
        "full_attn_mod": (1,),
        "interpolate_factor": (1,),
    },
)

FAMILIES = (PHI, PHI3)
