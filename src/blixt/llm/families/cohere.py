"""Cohere's Command R (1) and Command R7B/A (2): one norm for attention and MLP side by side."""

from dataclasses import dataclass, replace

from blixt.llm.config import ModelConfig
from blixt.llm.families.base import Family, Key, activation, sizes
from blixt.llm.families.keys import Json, Keys
from blixt.llm.families.llama import AttentionBias
from blixt.llm.families.parts import Roped, Windows, every, specs_of
from blixt.llm.families.ropes import Rope
from blixt.llm.families.tables import ENDS, attention, gated, norms
from blixt.llm.weights.rules import RuleTable

FIXED: Json = {"norm": "layer_no_bias", "norm_place": "parallel_shared"}
ROPED = Roped(Rope(interleaved=True))


def cohere_rules(config: ModelConfig) -> RuleTable:
    """One norm a layer."""
    return [*ENDS, *norms(attn_norm="input_layernorm"), *attention(config), *gated(config)]


@dataclass(frozen=True)
class QueryNorm:
    """`use_qk_norm`: each head has a norm of its own."""

    def read(self, keys: Keys, found: Json) -> None:
        """Fill in `qk_norm`."""
        found["qk_norm"] = "per_head" if keys.take("use_qk_norm", False) else "none"

    def write(self, config: ModelConfig) -> Json:
        """`use_qk_norm`."""
        return {"use_qk_norm": config.qk_norm == "per_head"}


KEYS = (
    *sizes("layer_norm_eps", 1e-5, tie=True),
    activation(),
    Key("logit_scale", "logits_scale", 0.0625),
)

COHERE = Family(
    "cohere",
    "CohereForCausalLM",
    KEYS,
    cohere_rules,
    (AttentionBias(), QueryNorm(), ROPED),
    FIXED,
    {"model_max_length": (), "use_parallel_block": (True,)},
)


@dataclass(frozen=True)
class RopeInWindows:
    """Layers with a window turn, those without do not."""

    roped: Roped = ROPED

    def read(self, keys: Keys, found: Json) -> None:
        """Fill in the layers' rope."""
        self.roped.read(keys, found)
        rope = found["rope"]
        found["layer_specs"] = tuple(
            replace(spec, rope=rope if spec.attn == "sliding" else None) for spec in specs_of(found)
        )

    def write(self, config: ModelConfig) -> Json:
        """The rope keys."""
        return self.roped.write(config)


COHERE2 = Family(
    "cohere2",
    "Cohere2ForCausalLM",
    (*KEYS, Key("head_dim", "head_dim", 0)),
    cohere_rules,
    (AttentionBias(), Windows(4096, every(4), pattern=4), RopeInWindows()),
    FIXED,
    {
        "cache_implementation": ("hybrid",),
        "layer_switch": (4,),
        "order_of_interleaved_layers": ("local_attn_first",),
        "position_embedding_type": ("rope_gptj",),
        "rotary_pct": (1.0,),
        "use_embedding_sharing": (True,),
        "use_gated_activation": (True,),
        "use_parallel_block": (True,),
        "use_parallel_embedding": (False, True),
        "use_qk_norm": (False,),
    },
)

FAMILIES = (COHERE, COHERE2)
