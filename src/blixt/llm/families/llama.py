"""Llama and its near relatives: Llama 1 to 4, Mistral, Ministral, Mixtral, SmolLM 3, Granite."""

from dataclasses import dataclass, replace

from blixt.llm.config import LayerSpec, ModelConfig, Temperature
from blixt.llm.families.base import HEAD_DIM, Family, Key, activation, sizes
from blixt.llm.families.keys import Json, Keys
from blixt.llm.families.parts import (
    CHUNKED,
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
    LAYER,
    OURS,
    PRE_NORMS,
    WRAPPED,
    attention,
    experts,
    gated,
    layers_with,
    linear,
    llama,
    only,
)
from blixt.llm.weights.rules import Chain, Rule, RuleTable, Split, Transpose


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
)

MISTRAL = Family(
    "mistral",
    "MistralForCausalLM",
    (*sizes(), HEAD_DIM, activation()),
    llama,
    (Roped(), Windows(4096)),
)

MINISTRAL = Family(
    "ministral",
    "MinistralForCausalLM",
    (*sizes(), HEAD_DIM, activation()),
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
    (*sizes(epsilon=1e-5), HEAD_DIM, activation()),
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
    (*sizes(epsilon=1e-5), HEAD_DIM, activation()),
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
    (*sizes(tie=True), HEAD_DIM, activation(), MLP_BIAS),
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


@dataclass(frozen=True)
class Llama4Layers:
    """Chunks where layers turn, temperature where they do not; experts in some layers."""

    rope: Rope

    def read(self, keys: Keys, found: Json) -> None:
        """Fill in `rope` and `layer_specs`."""
        layers = found["layers"]
        rope, _ = self.rope.read(keys, width_of(found), found["context"])
        interval, step = keys.take("no_rope_layer_interval", 4), keys.take("interleave_moe_layer_step", 1)
        turned = keys.take("no_rope_layers", None) or [(i + 1) % interval != 0 for i in range(layers)]
        default = [CHUNKED if turn else FULL for turn in turned]
        types = check(keys.take("layer_types", None) or default, layers)
        chunk = keys.take("attention_chunk_size", None) if keys.has("attention_chunk_size") else 8192
        temper = Temperature(keys.take("attn_scale", 0.1), keys.take("floor_scale", 8192), offset=1)
        tuned = keys.take("attn_temperature_tuning", True)
        plain = LayerSpec(d_ff=keys.take("intermediate_size_mlp", 16384))
        given = keys.take("moe_layers", None)
        sparse = set(range(step - 1, layers, step) if given is None else given)
        found["rope"] = rope
        found["layer_specs"] = tuple(
            replace(
                typed(plain, types[index], chunk),
                rope=rope if turned[index] else None,
                mlp="moe" if index in sparse else "gated",
                d_ff=0 if index in sparse else plain.d_ff,
                qk_norm=bool(turned[index]),
                temperature=temper if tuned and not turned[index] else None,
            )
            for index in range(layers)
        )

    def write(self, config: ModelConfig) -> Json:
        """All keys that `read` reads."""
        specs = config.specs
        temper = one(config, [spec.temperature for spec in specs if spec.temperature], "temperature")
        dense = one(config, [spec.d_ff for spec in specs if spec.mlp == "gated"], "d_ff")
        sparse = layers_with(config, "moe")
        data: Json = {
            "no_rope_layers": [int(spec.rope is not None) for spec in specs],
            "layer_types": types_of(config),
            "attention_chunk_size": window_of(config),
            "attn_temperature_tuning": temper is not None,
            "moe_layers": sparse,
            "intermediate_size_mlp": dense or 16384,
        }
        if temper:
            data |= {"attn_scale": temper.scale, "floor_scale": temper.length}
        return {**data, **self.rope.write(only_rope(config), config.head_dim, config.context)}


@dataclass(frozen=True)
class Llama4Experts:
    """A sigmoid router whose score weighs an expert's input, and a shared expert of the same width."""

    inner: Experts

    def read(self, keys: Keys, found: Json) -> None:
        """Fill in `moe`, and leave the layers as they are."""
        layers = found["layer_specs"]
        self.inner.read(keys, found)
        found["moe"] = replace(found["moe"], shared_d_ff=found["d_ff"])
        found["layer_specs"] = layers

    def write(self, config: ModelConfig) -> Json:
        """The keys of the mixture."""
        return self.inner.write(config)


def llama4_rules(config: ModelConfig) -> RuleTable:
    """Experts lie in one tensor (experts, in, out), gate and up beside one another."""
    moe, dense = layers_with(config, "moe"), layers_with(config, "gated")
    assert config.moe is not None
    width, inside = config.moe.d_ff, "feed_forward.experts."
    parts = ("gate", "up", "down")
    mixture = [
        Rule(
            (OURS + "mlp.experts.gate", OURS + "mlp.experts.up"),
            LAYER + inside + "gate_up_proj",
            Chain(Transpose(1, 2), Split((width, width), 1)),
        ),
        Rule(OURS + "mlp.experts.down", LAYER + inside + "down_proj", Transpose(1, 2)),
        *linear("mlp.router", "feed_forward.router"),
        *(
            r
            for part in parts
            for r in linear(f"mlp.shared.{part}", f"feed_forward.shared_expert.{part}_proj")
        ),
    ]
    plain = gated(config, "feed_forward", dense)
    return [*ENDS, *PRE_NORMS, *attention(config), *only(mixture, moe), *plain, *WRAPPED]


@dataclass(frozen=True)
class BareNorm:
    """`use_qk_norm`: a norm without weights after the rotation."""

    def read(self, keys: Keys, found: Json) -> None:
        """Fill in `qk_norm`."""
        found["qk_norm"] = "head" if keys.take("use_qk_norm", True) else "none"

    def write(self, config: ModelConfig) -> Json:
        """`use_qk_norm`."""
        return {"use_qk_norm": config.qk_norm == "head"}


LLAMA4 = Family(
    "llama4_text",
    "Llama4ForCausalLM",
    (*sizes(epsilon=1e-5), HEAD_DIM, activation()),
    llama4_rules,
    (
        AttentionBias(),
        BareNorm(),
        Llama4Layers(Rope(500_000.0, interleaved=True)),
        Llama4Experts(
            Experts(
                "num_local_experts",
                {"score": "sigmoid", "normalise": False, "weigh_input": True},
                width="",
                top_k=1,
            )
        ),
    ),
    {"qk_norm_kind": "rms_bare", "qk_norm_late": True},
    {"for_llm_compressor": (False,)},
)

FAMILIES = (LLAMA, MISTRAL, MINISTRAL, MINISTRAL3, MIXTRAL, SMOLLM3, GRANITE, LLAMA4)
