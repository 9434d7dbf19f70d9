"""Falcon 7B, 40B, 180B and 11B, whose heads and norms are laid out in three ways."""

from dataclasses import dataclass

from blixt.llm.config import ModelConfig
from blixt.llm.families.base import Family, Key, activation, sizes
from blixt.llm.families.keys import Json, Keys, unsupported
from blixt.llm.families.parts import Roped
from blixt.llm.families.tables import linear, named, norm, outer, plain, qkv
from blixt.llm.weights.rules import RuleTable, Skip, SplitGroups


@dataclass(frozen=True)
class FalconShape:
    """Heads, norms and residuals of Falcon's three layouts."""

    def read(self, keys: Keys, found: Json) -> None:
        """Fill in what they decide.

        Raises:
            ConfigError: A mixture of them that no release has.
        """
        new, parallel = keys.take("new_decoder_architecture", False), keys.take("parallel_attn", True)
        multi, norms = keys.take("multi_query", True), keys.take("num_ln_in_parallel_attn", 2 if new else 1)
        groups = keys.take("num_kv_heads", found["heads"])
        if new and not parallel:
            raise unsupported("parallel_attn", parallel, "new_decoder_architecture needs it to be true")
        if not new and norms != 1:
            raise unsupported("num_ln_in_parallel_attn", norms, "needs new_decoder_architecture")
        found["kv_heads"] = groups if new or not multi else 1
        place = "parallel" if norms == 2 else "parallel_shared"
        found["norm_place"] = place if parallel else "pre"
        found["d_ff"] = found["d_ff"] or 4 * found["d"]
        found["qkv_bias"] = found["out_bias"] = found["mlp_bias"] = keys.take("bias", False)

    def write(self, config: ModelConfig) -> Json:
        """The layout that says the same."""
        parallel = config.norm_place != "pre"
        new = config.norm_place == "parallel" or (parallel and config.kv_heads > 1)
        return {
            "new_decoder_architecture": new,
            "parallel_attn": parallel,
            "multi_query": config.kv_heads == 1,
            "num_kv_heads": config.kv_heads,
            "num_ln_in_parallel_attn": (2 if config.norm_place == "parallel" else 1) if new else None,
            "bias": config.qkv_bias,
        }


def falcon_rules(config: ModelConfig) -> RuleTable:
    """Query, key and value by group of queries; two names for the norms."""
    width, inner = config.heads * config.head_dim, config.head_dim
    groups = SplitGroups(config.kv_heads, (width // config.kv_heads, inner, inner))
    two = config.norm_place == "parallel"
    block = [
        *norm("attn_norm", "ln_attn" if two else "input_layernorm", bias=True),
        *qkv("self_attention.query_key_value", groups, groups if config.qkv_bias else None),
        *linear("attn.out", "self_attention.dense", config.out_bias),
        *plain("mlp.dense_h_to_4h", "mlp.dense_4h_to_h", config.mlp_bias),
    ]
    if config.norm_place != "parallel_shared":
        block += norm("mlp_norm", "ln_mlp" if two else "post_attention_layernorm", bias=True)
    return [
        *outer("transformer.word_embeddings", "transformer.ln_f", "lm_head"),
        *named(block, "transformer.h.{i}."),
        Skip(r".*\.rotary_emb\.inv_freq"),
        Skip(r".*\.self_attention\.maybe_rotary\.inv_freq"),
    ]


FALCON = Family(
    "falcon",
    "FalconForCausalLM",
    (
        *(
            key
            for key in sizes("layer_norm_epsilon", 1e-5, tie=True, max_position_embeddings=2048)
            if key.ours not in ("kv_heads", "d_ff")
        ),
        Key("ffn_hidden_size", "d_ff", 0),
        activation("activation", "gelu"),
    ),
    falcon_rules,
    (FalconShape(), Roped()),
    {"norm": "layer", "mlp": "plain"},
    {"alibi": (False,), "apply_residual_connection_post_layernorm": (False,)},
)


FAMILIES = (FALCON,)
