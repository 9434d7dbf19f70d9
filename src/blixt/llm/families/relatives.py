"""Llamas with one change each: Arcee's AFM (an MLP of two layers), Seed-OSS (other biases)."""

from blixt.llm.config import ModelConfig
from blixt.llm.families.base import HEAD_DIM, Family, Key, activation, sizes
from blixt.llm.families.llama import MLP_BIAS, AttentionBias
from blixt.llm.families.parts import Roped
from blixt.llm.families.tables import ENDS, PRE_NORMS, attention, llama, plain
from blixt.llm.weights.rules import RuleTable


def arcee_rules(config: ModelConfig) -> RuleTable:
    """Llama's names, without a gate."""
    return [*ENDS, *PRE_NORMS, *attention(config), *plain("mlp.up_proj", "mlp.down_proj", config.mlp_bias)]


ARCEE = Family(
    "arcee",
    "ArceeForCausalLM",
    keys=(*sizes(epsilon=1e-5), HEAD_DIM, activation(default="relu2"), MLP_BIAS),
    rules=arcee_rules,
    parts=(AttentionBias(), Roped()),
    fixed={"mlp": "plain"},
)

SEED_OSS = Family(
    "seed_oss",
    "SeedOssForCausalLM",
    keys=(
        *sizes(),
        Key("head_dim", "head_dim", 128),
        activation(),
        MLP_BIAS,
        Key("attention_bias", "qkv_bias", True),
        Key("attention_out_bias", "out_bias", False),
    ),
    rules=llama,
    parts=(Roped(),),
)

FAMILIES = (ARCEE, SEED_OSS)
