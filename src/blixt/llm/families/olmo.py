"""OLMo 1, 2 and 3."""

from blixt.llm.config import ModelConfig
from blixt.llm.families.base import Family, Key, activation, sizes
from blixt.llm.families.gemma import RopeByType
from blixt.llm.families.llama import AttentionBias
from blixt.llm.families.parts import Roped, Windows, every
from blixt.llm.families.ropes import Rope
from blixt.llm.families.tables import ENDS as NAMES
from blixt.llm.families.tables import attention, gated, llama, norms
from blixt.llm.weights.rules import RuleTable


def olmo_rules(config: ModelConfig) -> RuleTable:
    """A Llama whose norms have no parameters."""
    return [rule for rule in llama(config) if "norm" not in str(getattr(rule, "ours", ""))]


OLMO = Family(
    "olmo",
    "OlmoForCausalLM",
    (
        *(key for key in sizes() if key.ours != "norm_eps"),
        activation(),
        Key("clip_qkv", "qkv_clip", 0.0, save=lambda clip: clip or None),
    ),
    olmo_rules,
    (AttentionBias(), Roped()),
    {"norm": "layer_bare", "norm_eps": 1e-5},
    {"embedding_layer_norm": (False,)},
)


def olmo2_rules(config: ModelConfig) -> RuleTable:
    """Norms after attention and MLP only."""
    after = norms(attn_post_norm="post_attention_layernorm", mlp_post_norm="post_feedforward_layernorm")
    return [*NAMES, *after, *attention(config), *gated(config)]


OLMO2 = Family(
    "olmo2",
    "Olmo2ForCausalLM",
    (*sizes(epsilon=1e-5), activation()),
    olmo2_rules,
    (AttentionBias(), Roped()),
    {"norm_place": "post", "qk_norm": "full"},
)

OLMO3 = Family(
    "olmo3",
    "Olmo3ForCausalLM",
    (*sizes(epsilon=1e-5), activation()),
    olmo2_rules,
    (AttentionBias(), Windows(4096, every(4)), RopeByType(Rope(500_000.0), Rope(500_000.0))),
    {"norm_place": "post", "qk_norm": "full"},
)

FAMILIES = (OLMO, OLMO2, OLMO3)
