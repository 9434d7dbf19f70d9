"""GLM-4: the first dense form, the one with sandwich norms, and GLM-4.5 with experts."""

from dataclasses import dataclass

from blixt.llm.config import ModelConfig
from blixt.llm.families.base import Family, Key, activation, sizes
from blixt.llm.families.deepseek import GROUPED, first_dense
from blixt.llm.families.keys import Json, Keys
from blixt.llm.families.llama import AttentionBias
from blixt.llm.families.parts import Experts, Roped
from blixt.llm.families.ropes import Rope
from blixt.llm.families.tables import (
    ENDS,
    PRE_NORMS,
    attention,
    experts,
    fused_gated,
    gated,
    layers_with,
    norms,
)
from blixt.llm.weights.rules import RuleTable, Skip

KEYS = (*sizes(epsilon=1.5625e-7, num_key_value_heads=2), Key("head_dim", "head_dim", 128), activation())
BIAS = AttentionBias(default=True, out=False)
ROPE = Roped(Rope(partial=0.5, interleaved=True))


def glm_rules(config: ModelConfig) -> RuleTable:
    """A Llama with gate and up in one matrix."""
    return [*ENDS, *PRE_NORMS, *attention(config), *fused_gated(config)]


def glm4_rules(config: ModelConfig) -> RuleTable:
    """The same with norms after attention and MLP, too."""
    around = norms(
        attn_norm="input_layernorm",
        attn_post_norm="post_self_attn_layernorm",
        mlp_norm="post_attention_layernorm",
        mlp_post_norm="post_mlp_layernorm",
    )
    return [*ENDS, *around, *attention(config), *fused_gated(config)]


GLM = Family("glm", "GlmForCausalLM", KEYS, glm_rules, (BIAS, ROPE))
GLM4 = Family("glm4", "Glm4ForCausalLM", KEYS, glm4_rules, (BIAS, ROPE), {"norm_place": "sandwich"})


@dataclass(frozen=True)
class QueryNorm:
    """`use_qk_norm`."""

    def read(self, keys: Keys, found: Json) -> None:
        """Fill in `qk_norm`."""
        found["qk_norm"] = "head" if keys.take("use_qk_norm", False) else "none"

    def write(self, config: ModelConfig) -> Json:
        """`use_qk_norm`."""
        return {"use_qk_norm": config.qk_norm == "head"}


def glm4_moe_rules(config: ModelConfig) -> RuleTable:
    """Experts one by one, a shared one, the first layers dense; draft layers are passed over."""
    mixture = experts(
        config,
        "mlp.experts.{e}.{part}_proj.weight",
        "mlp.gate",
        "mlp.shared_experts",
        layers=layers_with(config, "moe"),
    )
    plain = gated(config, layers=layers_with(config, "gated"))
    draft = Skip(rf"model\.layers\.{config.layers}\..*")
    return [*ENDS, *PRE_NORMS, *attention(config), *mixture, *plain, draft]


GLM4_MOE = Family(
    "glm4_moe",
    "Glm4MoeForCausalLM",
    (*sizes(epsilon=1e-5, num_key_value_heads=8), Key("head_dim", "head_dim", 0), activation()),
    glm4_moe_rules,
    (
        AttentionBias(out=False),
        QueryNorm(),
        Roped(Rope(partial=0.5)),
        Experts(
            "n_routed_experts",
            {"score": "sigmoid", "correction": True, "group_score": "top2"},
            keys=(*GROUPED, ("norm_topk_prob", "normalise", True)),
            shared="n_shared_experts",
            shared_unit=True,
            dense=first_dense(1),
            dense_back=lambda dense, _: {"first_k_dense_replace": len(dense)},
            top_k=8,
        ),
    ),
    {},
    {"num_nextn_predict_layers": (0, 1, 2, 3), "num_mtp_layers": (0, 1, 2, 3)},
)

FAMILIES = (GLM, GLM4, GLM4_MOE)
