"""Llama and its near relatives: Llama 1 to 3, Mistral, Ministral, Mixtral, SmolLM 3, Granite."""

from dataclasses import dataclass, replace

from blixt.llm.config import ModelConfig, Temperature
from blixt.llm.families.base import HEAD_DIM, Family, Key, activation, sizes
from blixt.llm.families.keys import Json, Keys
from blixt.llm.families.parts import (
    Experts,
    Roped,
    Windows,
    check,
    one,
    specs_of,
    typed,
    types_of,
    width_of,
    window_of,
)
from blixt.llm.families.ropes import FULL, SLIDING, Rope, only_rope
from blixt.llm.families.tables import (
    ENDS,
    PRE_NORMS,
    attention,
    experts,
    llama,
)
from blixt.llm.weights.rules import RuleTable


@dataclass(frozen=True)
class AttentionBias:
    """`attention_bias`: of query, key and value layers, and of the output layer where `out` says so."""

    default: bool = False
    out: bool = True

    def read(self, keys: Keys, found: Json) -> None:
        """Fill in `qkv_bias` and `out_bias`."""
        found["qkv_bias"] = keys.take("attention_bias", self.default)
        found["out_bias"] = found["qkv_bias"] and self.out

    def write(self, config: ModelConfig) -> Json:
        """`attention_bias`."""
        return {"attention_bias": config.qkv_bias}


MLP_BIAS = Key("mlp_bias", "mlp_bias", False)

LLAMA = Family(
    "llama",
    "LlamaForCausalLM",
    (*sizes(), HEAD_DIM, activation(), MLP_BIAS),
    llama,
    (AttentionBias(), Roped()),
    expects={"is_llama_config": (True,), "rope_interleaved": (False,)},
)

MISTRAL = Family(
    "mistral",
    "MistralForCausalLM",
    (*sizes(num_key_value_heads=8), HEAD_DIM, activation()),
    llama,
    (Roped(), Windows(4096)),
)

MINISTRAL = Family(
    "ministral",
    "MinistralForCausalLM",
    (*sizes(num_key_value_heads=8), HEAD_DIM, activation()),
    llama,
    (Roped(), Windows(4096, lambda layers, _: [SLIDING] * layers)),
)


@dataclass(frozen=True)
class Ministral3Rope:
    """YaRN, with queries that grow with the position (`llama_4_scaling_beta`)."""

    rope: Rope

    def read(self, keys: Keys, found: Json) -> None:
        """Fill in `rope` and the layers' temperature."""
        found["rope"], given = self.rope.read(keys, width_of(found), found["context"])
        beta = given.get("llama_4_scaling_beta")
        temper = Temperature(beta, given["original_max_position_embeddings"]) if beta else None
        found["layer_specs"] = tuple(replace(spec, temperature=temper) for spec in specs_of(found))

    def write(self, config: ModelConfig) -> Json:
        """The rope keys."""
        temper = one(config, [spec.temperature for spec in config.specs], "temperature")
        extra = {"llama_4_scaling_beta": temper.scale} if temper else {}
        return self.rope.write(only_rope(config), config.head_dim, config.context, extra)


MINISTRAL3 = Family(
    "ministral3",
    "Ministral3ForCausalLM",
    (*sizes(epsilon=1e-5, num_key_value_heads=8), Key("head_dim", "head_dim", 128, null=0), activation()),
    llama,
    (Ministral3Rope(Rope(1_000_000.0, extra=("llama_4_scaling_beta", "max_position_embeddings"))), Windows()),
)


def mixtral_rules(config: ModelConfig) -> RuleTable:
    """Mixtral calls an expert's gate, up and down w1, w3 and w2."""
    names = " ".join(f"block_sparse_moe.experts.{{e}}.{name}.weight" for name in ("w1", "w3", "w2"))
    return [*ENDS, *PRE_NORMS, *attention(config), *experts(config, names, "block_sparse_moe.gate")]


MIXTRAL = Family(
    "mixtral",
    "MixtralForCausalLM",
    (*sizes(epsilon=1e-5, num_key_value_heads=8), HEAD_DIM, activation()),
    mixtral_rules,
    (
        Roped(Rope(1_000_000.0)),
        Windows(),
        Experts("num_local_experts", {"score": "softmax", "normalise": True}, width="", top_k=2),
    ),
)


@dataclass(frozen=True)
class SomeRope:
    """Layers without positions (NoPE), as `no_rope_layers` says: 1 for a layer that turns."""

    def read(self, keys: Keys, found: Json) -> None:
        """Take the rope from some layers' specs."""
        interval = keys.take("no_rope_layer_interval", 4)
        specs = specs_of(found)
        turned = keys.take("no_rope_layers", None) or [(i + 1) % interval != 0 for i in range(len(specs))]
        found["layer_specs"] = tuple(
            spec if turn else replace(spec, rope=None) for spec, turn in zip(specs, turned, strict=True)
        )

    def write(self, config: ModelConfig) -> Json:
        """`no_rope_layers`."""
        return {"no_rope_layers": [int(spec.rope is not None) for spec in config.specs]}


@dataclass(frozen=True)
class SwitchedWindows:
    """Windows that `use_sliding_window` switches on, in the layers without positions (SmolLM 3)."""

    def read(self, keys: Keys, found: Json) -> None:
        """Fill in the layers' windows."""
        on, window = keys.take("use_sliding_window", False), keys.take("sliding_window", None)
        specs = specs_of(found)
        types = keys.take("layer_types", None) or [
            SLIDING if on and window and spec.rope is None else FULL for spec in specs
        ]
        found["layer_specs"] = tuple(
            typed(spec, kind if on else FULL, window)
            for spec, kind in zip(specs, check(types, len(specs)), strict=True)
        )

    def write(self, config: ModelConfig) -> Json:
        """The switch, the window and the layers' types."""
        window = window_of(config)
        return {"use_sliding_window": bool(window), "sliding_window": window, "layer_types": types_of(config)}


SMOLLM3 = Family(
    "smollm3",
    "SmolLM3ForCausalLM",
    (*sizes(tie=True, num_key_value_heads=4), HEAD_DIM, activation(), MLP_BIAS),
    llama,
    (AttentionBias(), Roped(Rope(2_000_000.0)), SomeRope(), SwitchedWindows()),
    expects={"max_window_layers": ()},
)

GRANITE = Family(
    "granite",
    "GraniteForCausalLM",
    (
        *sizes(),
        HEAD_DIM,
        activation(),
        MLP_BIAS,
        Key("embedding_multiplier", "embed_scale", 1.0),
        Key("residual_multiplier", "resid_scale", 1.0),
        Key("attention_multiplier", "query_scale", 1.0),
        Key(
            "logits_scaling", "logits_scale", 1.0, load=lambda value: 1 / value, save=lambda scale: 1 / scale
        ),
    ),
    llama,
    (AttentionBias(), Roped()),
)


FAMILIES = (LLAMA, MISTRAL, MINISTRAL, MINISTRAL3, MIXTRAL, SMOLLM3, GRANITE)
