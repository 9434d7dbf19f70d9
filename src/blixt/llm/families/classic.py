"""LayerNorm around a Llama's attention: StableLM, StarCoder 2."""

from dataclasses import dataclass, replace

from blixt.llm.config import ModelConfig
from blixt.llm.errors import ConfigError
from blixt.llm.families.base import HEAD_DIM, Family, Key, activation, sizes
from blixt.llm.families.gpt import ALL_BIASES, ParallelResidual
from blixt.llm.families.keys import Json, Keys
from blixt.llm.families.parts import Roped, Windows
from blixt.llm.families.phi import QueryNorm
from blixt.llm.families.ropes import Rope
from blixt.llm.families.tables import ENDS as NAMES
from blixt.llm.families.tables import LAYER, OURS, attention, gated, norm, outer, plain
from blixt.llm.weights.rules import Rule, RuleTable, Skip, Stack


def stablelm_rules(config: ModelConfig) -> RuleTable:
    """LayerNorms with bias around a Llama's layers; norms of queries and keys head by head."""
    rules: list[Rule] = [
        *outer("model.embed_tokens", "model.norm", "lm_head"),
        *norm("attn_norm", "input_layernorm", bias=True),
        *attention(replace(config, qk_norm="none")),
        *gated(config),
    ]
    if config.norm_place == "pre":
        rules += norm("mlp_norm", "post_attention_layernorm", bias=True)
    if config.qk_norm == "per_head":
        for name, heads in (("q", config.heads), ("k", config.kv_heads)):
            theirs = LAYER + f"self_attn.{name}_layernorm.norms.{{e}}.weight"
            rules.append(Rule(OURS + f"attn.{name}_norm.weight", theirs, Stack(), experts=heads))
    return [*rules, Skip(r".*\.rotary_emb\.inv_freq")]


STABLELM = Family(
    "stablelm",
    "StableLmForCausalLM",
    (*sizes("layer_norm_eps", 1e-5), activation(), Key("use_qkv_bias", "qkv_bias", False)),
    stablelm_rules,
    (
        QueryNorm("per_head"),
        ParallelResidual(False, "parallel_shared"),
        Roped(Rope(partial=0.25)),
    ),
    {"norm": "layer", "qk_norm_kind": "layer_no_bias"},
    {"rope_pct": (0.25,), "rotary_scaling_factor": (1.0,), "norm_eps": (1e-5,)},
)


@dataclass(frozen=True)
class UseBias:
    """`use_bias`: of every linear layer."""

    def read(self, keys: Keys, found: Json) -> None:
        """Fill in the biases."""
        found |= dict.fromkeys(ALL_BIASES, keys.take("use_bias", True))

    def write(self, config: ModelConfig) -> Json:
        """`use_bias`.

        Raises:
            ConfigError: Some layers have a bias and others not.
        """
        biases = {config.qkv_bias, config.out_bias, config.mlp_bias}
        if len(biases) > 1:
            raise ConfigError(
                f"ModelConfig(qkv_bias={config.qkv_bias}, out_bias={config.out_bias}, "
                f"mlp_bias={config.mlp_bias}): a starcoder2 "
                "config.json has one use_bias for all"
            )
        return {"use_bias": config.mlp_bias}


def starcoder2_rules(config: ModelConfig) -> RuleTable:
    """LayerNorms with bias, an MLP of two layers."""
    return [
        *outer("model.embed_tokens", "model.norm", "lm_head"),
        *norm("attn_norm", "input_layernorm", bias=True),
        *norm("mlp_norm", "post_attention_layernorm", bias=True),
        *attention(config),
        *plain("mlp.c_fc", "mlp.c_proj", config.mlp_bias),
        *(rule for rule in NAMES if isinstance(rule, Skip)),
    ]


STARCODER2 = Family(
    "starcoder2",
    "Starcoder2ForCausalLM",
    (
        *sizes("norm_epsilon", 1e-5, tie=True, num_key_value_heads=2),
        HEAD_DIM,
        activation(default="gelu_pytorch_tanh"),
    ),
    starcoder2_rules,
    (UseBias(), Roped(), Windows()),
    {"norm": "layer", "mlp": "plain"},
    {"norm_type": ("layer_norm",), "mlp_type": ("default",)},
)


FAMILIES = (STABLELM, STARCODER2)
