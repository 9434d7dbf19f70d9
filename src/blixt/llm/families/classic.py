"""Decoders with LayerNorm: GPT-2, GPT-NeoX (Pythia), Falcon, StableLM, StarCoder 2."""

from dataclasses import dataclass, replace

from blixt.llm.config import ModelConfig
from blixt.llm.errors import ConfigError
from blixt.llm.families.base import ENDS, HEAD_DIM, Family, Key, activation, sizes
from blixt.llm.families.keys import Json, Keys, unsupported
from blixt.llm.families.parts import Roped, Windows, specs_of
from blixt.llm.families.phi import QueryNorm
from blixt.llm.families.ropes import Rope
from blixt.llm.families.tables import ENDS as NAMES
from blixt.llm.families.tables import LAYER, OURS, attention, gated, linear, norm, plain
from blixt.llm.weights.rules import (
    Alias,
    Chain,
    Op,
    Rule,
    RuleTable,
    Skip,
    Split,
    SplitGroups,
    Stack,
    Transpose,
)

QKV = ("attn.q", "attn.k", "attn.v")
ALL_BIASES: Json = {"qkv_bias": True, "out_bias": True, "mlp_bias": True}


def named(rules: list[Rule], layer: str) -> list[Rule]:
    """Rules of a block under another beginning than `model.layers.{i}.`."""
    return [
        replace(rule, theirs=rule.theirs.replace(LAYER, layer))
        for rule in rules
        if isinstance(rule.theirs, str)
    ]


def qkv(theirs: str, op: Op, bias_op: Op | None = None) -> list[Rule]:
    """Query, key and value in one tensor, and their biases when `bias_op` is given."""
    rules = [Rule(tuple(f"{OURS}{name}.weight" for name in QKV), f"{LAYER}{theirs}.weight", op)]
    if bias_op:
        rules.append(Rule(tuple(f"{OURS}{name}.bias" for name in QKV), f"{LAYER}{theirs}.bias", bias_op))
    return rules


def outer(embed: str, last: str, head: str) -> list[Rule]:
    """The embedding, the last LayerNorm and the output layer."""
    return [
        Rule("embed.weight", f"{embed}.weight"),
        Rule("norm.weight", f"{last}.weight"),
        Rule("norm.bias", f"{last}.bias"),
        Rule("head.weight", f"{head}.weight"),
    ]


# GPT-2


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


# GPT-NeoX


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


# Falcon


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


# StableLM


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
    {"rope_pct": (0.25,), "norm_eps": (1e-5,)},
)


# StarCoder 2


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
    (*sizes("norm_epsilon", 1e-5, tie=True), HEAD_DIM, activation(default="gelu_pytorch_tanh")),
    starcoder2_rules,
    (UseBias(), Roped(), Windows()),
    {"norm": "layer", "mlp": "plain"},
    {"norm_type": ("layer_norm",), "mlp_type": ("default",)},
)

FAMILIES = (GPT2, GPT_NEOX, FALCON, STABLELM, STARCODER2)
