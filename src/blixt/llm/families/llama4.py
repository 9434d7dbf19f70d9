"""The text part of Llama 4: chunks, layers without positions, experts whose input is weighed."""

from dataclasses import dataclass, replace

from blixt.llm.config import LayerSpec, ModelConfig, Temperature
from blixt.llm.families.base import Family, Key, activation, sizes
from blixt.llm.families.keys import Json, Keys
from blixt.llm.families.llama import AttentionBias
from blixt.llm.families.parts import (
    CHUNKED,
    Experts,
    check,
    one,
    typed,
    types_of,
    width_of,
    window_of,
)
from blixt.llm.families.ropes import FULL, Rope, only_rope
from blixt.llm.families.tables import (
    ENDS,
    LAYER,
    OURS,
    PRE_NORMS,
    WRAPPED,
    attention,
    gated,
    layers_with,
    linear,
    only,
)
from blixt.llm.weights.rules import Chain, Rule, RuleTable, Split, Transpose


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
    (*sizes(epsilon=1e-5, num_key_value_heads=8), Key("head_dim", "head_dim", 128, null=0), activation()),
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


FAMILIES = (LLAMA4,)
