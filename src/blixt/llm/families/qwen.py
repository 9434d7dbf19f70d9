"""Qwen 2, 2.5 and 3, dense and with experts."""

from dataclasses import dataclass, replace

from blixt.llm.config import ModelConfig
from blixt.llm.families.base import HEAD_DIM, Family, Key, activation, sizes
from blixt.llm.families.keys import Json, Keys
from blixt.llm.families.llama import AttentionBias
from blixt.llm.families.parts import Experts, Roped, check, specs_of, typed, types_of, window_of
from blixt.llm.families.ropes import FULL, SLIDING
from blixt.llm.families.tables import ENDS, PRE_NORMS, attention, experts, gated, layers_with, llama
from blixt.llm.weights.rules import RuleTable


@dataclass(frozen=True)
class QwenWindows:
    """Windows that `use_sliding_window` switches on.

    Attributes:
        mode: Which layers then have one when `layer_types` is absent: those from `max_window_layers` on
            ("upper"), every other below it ("lower"), or all; with "all" there is no `layer_types` key.
    """

    mode: str = "upper"

    def read(self, keys: Keys, found: Json) -> None:
        """Fill in `layer_specs`."""
        window, bound = keys.take("sliding_window", 4096), keys.take("max_window_layers", 28)
        on = keys.take("use_sliding_window", False)
        specs = specs_of(found)
        types = keys.take("layer_types", None) if self.mode != "all" else None
        types = types or [SLIDING if on and self._slides(i, bound) else FULL for i in range(len(specs))]
        found["layer_specs"] = tuple(
            typed(spec, kind, window if on else None)
            for spec, kind in zip(specs, check(types, len(specs)), strict=True)
        )

    def _slides(self, layer: int, bound: int) -> bool:
        if self.mode == "upper":
            return layer >= bound
        return self.mode == "all" or (layer % 2 == 0 and layer < bound)

    def write(self, config: ModelConfig) -> Json:
        """The switch, the window and the layers."""
        window, types = window_of(config), types_of(config)
        data: Json = {"use_sliding_window": bool(window), "sliding_window": window}
        if self.mode != "all":
            upper = types.index(SLIDING) if SLIDING in types else config.layers
            data |= {"layer_types": types, "max_window_layers": upper}
        return data


QWEN2 = Family(
    "qwen2",
    "Qwen2ForCausalLM",
    (*sizes(), HEAD_DIM, activation()),
    llama,
    (Roped(), QwenWindows()),
    {"qkv_bias": True},
    {"use_mrope": (False,), "dual_chunk_attention_config": ()},  # the latter: of serving beyond 256k tokens
)

QWEN3 = Family(
    "qwen3",
    "Qwen3ForCausalLM",
    (*sizes(), Key("head_dim", "head_dim", 128), activation()),
    llama,
    (AttentionBias(), Roped(), QwenWindows()),
    {"qk_norm": "head"},
)


@dataclass(frozen=True)
class SparseLayers:
    """Every `decoder_sparse_step`-th layer has experts, but for `mlp_only_layers`."""

    inner: Experts

    def read(self, keys: Keys, found: Json) -> None:
        """Fill in `moe` and the layers' MLPs."""
        step, plain = keys.take("decoder_sparse_step", 1), set(keys.take("mlp_only_layers", []))
        before = specs_of(found)
        self.inner.read(keys, found)
        found["layer_specs"] = tuple(
            replace(spec, mlp="gated" if index in plain or (index + 1) % step else "moe")
            for index, spec in enumerate(before)
        )

    def write(self, config: ModelConfig) -> Json:
        """The layers without experts, one by one."""
        return {
            **self.inner.write(config),
            "decoder_sparse_step": 1,
            "mlp_only_layers": layers_with(config, "gated"),
        }


def moe_rules(config: ModelConfig) -> RuleTable:
    """Experts one by one, and Qwen 2's gated shared expert."""
    mixture = experts(
        config,
        "mlp.experts.{e}.{part}_proj.weight",
        "mlp.gate",
        "mlp.shared_expert",
        "mlp.shared_expert_gate",
        layers_with(config, "moe"),
    )
    plain = gated(config, layers=layers_with(config, "gated"))
    return [*ENDS, *PRE_NORMS, *attention(config), *mixture, *plain]


QWEN2_MOE = Family(
    "qwen2_moe",
    "Qwen2MoeForCausalLM",
    (*sizes(), HEAD_DIM, activation(), Key("qkv_bias", "qkv_bias", True)),
    moe_rules,
    (
        Roped(),
        QwenWindows("lower"),
        SparseLayers(
            Experts(
                "num_experts",
                {"shared_gate": True},
                keys=(("norm_topk_prob", "normalise", False),),
                shared="shared_expert_intermediate_size",
                top_k=4,
            )
        ),
    ),
)

QWEN3_MOE = Family(
    "qwen3_moe",
    "Qwen3MoeForCausalLM",
    (*sizes(num_key_value_heads=4), HEAD_DIM, activation()),
    moe_rules,
    (
        AttentionBias(),
        Roped(),
        QwenWindows("all"),
        SparseLayers(
            Experts(
                "num_experts",
                {},
                keys=(("norm_topk_prob", "normalise", False),),
                top_k=8,
                alias="num_local_experts",
            )
        ),
    ),
    {"qk_norm": "head"},
)

FAMILIES = (QWEN2, QWEN3, QWEN2_MOE, QWEN3_MOE)
