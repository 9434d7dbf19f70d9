"""GPT-2 and GPT-NeoX (Pythia)."""

from dataclasses import dataclass, replace

from blixt.llm.config import ModelConfig
from blixt.llm.families.base import ENDS, Family, Key, activation, sizes
from blixt.llm.families.keys import Json, Keys
from blixt.llm.families.parts import Roped, specs_of
from blixt.llm.families.ropes import Rope
from blixt.llm.families.tables import LAYER, OURS, linear, named, norm, outer, plain, qkv
from blixt.llm.weights.rules import Alias, Chain, Rule, RuleTable, Skip, Split, SplitGroups, Transpose

ALL_BIASES: Json = {"qkv_bias": True, "out_bias": True, "mlp_bias": True}


@dataclass(frozen=True)
class Gpt2Scale:
    """Scores unscaled, or also divided by the layer's number."""

    def read(self, keys: Keys, found: Json) -> None:
        """Fill in the layers' `query_scale`, and the MLP's default width."""
        width = found["d"] // found["heads"]
        scale = width**-0.5 if keys.take("scale_attn_weights", True) else 1.0
        by_layer = keys.take("scale_attn_by_inverse_layer_idx", False)
        found["d_ff"] = found["d_ff"] or 4 * found["d"]
        found["layer_specs"] = tuple(
            replace(spec, query_scale=scale / (index + 1 if by_layer else 1))
            for index, spec in enumerate(specs_of(found))
        )

    def write(self, config: ModelConfig) -> Json:
        """Both switches."""
        first, last = config.specs[0].query_scale, config.specs[-1].query_scale
        return {"scale_attn_weights": first != 1.0, "scale_attn_by_inverse_layer_idx": first != last}


def gpt2_rules(config: ModelConfig) -> RuleTable:
    """Conv1D keeps (in, out); query, key and value are one."""
    parts = (config.d,) * 3
    block = [
        *norm("attn_norm", "ln_1", bias=True),
        *norm("mlp_norm", "ln_2", bias=True),
        *qkv("attn.c_attn", Chain(Transpose(), Split(parts)), Split(parts)),
        Rule(OURS + "attn.out.weight", LAYER + "attn.c_proj.weight", Transpose()),
        Rule(OURS + "attn.out.bias", LAYER + "attn.c_proj.bias"),
        *plain("mlp.c_fc", "mlp.c_proj", op=Transpose()),
    ]
    return [
        *outer("transformer.wte", "transformer.ln_f", "lm_head"),
        Rule("pos_embed.weight", "transformer.wpe.weight"),
        *named(block, "transformer.h.{i}."),
        Alias("", "transformer."),
        Skip(r".*\.attn\.(masked_)?bias"),
    ]


GPT2 = Family(
    "gpt2",
    "GPT2LMHeadModel",
    (
        Key("vocab_size", "vocab"),
        Key("n_embd", "d"),
        Key("n_layer", "layers"),
        Key("n_head", "heads"),
        Key("n_positions", "context"),
        Key("n_inner", "d_ff", 0),
        Key("layer_norm_epsilon", "norm_eps", 1e-5),
        Key("tie_word_embeddings", "tie", True),
        activation("activation_function", "gelu_new", tanh="gelu_new"),
        *ENDS,
    ),
    gpt2_rules,
    (Gpt2Scale(),),
    {**ALL_BIASES, "norm": "layer", "position": "learned", "mlp": "plain"},
    {"n_ctx": (), "reorder_and_upcast_attn": (False, True)},
)


@dataclass(frozen=True)
class ParallelResidual:
    """`use_parallel_residual`.

    Attributes:
        default: When the file does not say.
        place: `ModelConfig.norm_place` when it is on.
    """

    default: bool
    place: str

    def read(self, keys: Keys, found: Json) -> None:
        """Fill in `norm_place`."""
        found["norm_place"] = self.place if keys.take("use_parallel_residual", self.default) else "pre"

    def write(self, config: ModelConfig) -> Json:
        """`use_parallel_residual`."""
        return {"use_parallel_residual": config.norm_place == self.place}


@dataclass(frozen=True)
class NeoxBias:
    """`attention_bias`, on by default."""

    def read(self, keys: Keys, found: Json) -> None:
        """Fill in attention's biases."""
        found["qkv_bias"] = found["out_bias"] = keys.take("attention_bias", True)

    def write(self, config: ModelConfig) -> Json:
        """`attention_bias`."""
        return {"attention_bias": config.qkv_bias}


def neox_rules(config: ModelConfig) -> RuleTable:
    """Query, key and value of one head after another."""
    heads = SplitGroups(config.heads, (config.head_dim,) * 3)
    block = [
        *norm("attn_norm", "input_layernorm", bias=True),
        *norm("mlp_norm", "post_attention_layernorm", bias=True),
        *qkv("attention.query_key_value", heads, heads if config.qkv_bias else None),
        *linear("attn.out", "attention.dense", config.out_bias),
        *plain("mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
    ]
    return [
        *outer("gpt_neox.embed_in", "gpt_neox.final_layer_norm", "embed_out"),
        *named(block, "gpt_neox.layers.{i}."),
        Skip(r".*\.(rotary_emb\.inv_freq|attention\.(masked_)?bias)"),
    ]


GPT_NEOX = Family(
    "gpt_neox",
    "GPTNeoXForCausalLM",
    (
        *(key for key in sizes("layer_norm_eps", 1e-5) if key.ours != "kv_heads"),
        activation(default="gelu", tanh="gelu_new"),
    ),
    neox_rules,
    (
        NeoxBias(),
        ParallelResidual(True, "parallel"),
        Roped(Rope(partial=0.25, base_key="rotary_emb_base", partial_key="rotary_pct")),
    ),
    {"norm": "layer", "mlp": "plain", "mlp_bias": True},
)


FAMILIES = (GPT2, GPT_NEOX)
