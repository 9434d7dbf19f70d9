"""Gemma 1, 2 and the text part of 3: norms stored minus one, scaled embeddings, GeGLU."""

from dataclasses import dataclass, replace

from blixt.llm.config import ModelConfig, RopeSpec
from blixt.llm.families.base import Family, Key, activation, sizes
from blixt.llm.families.keys import Json, Keys
from blixt.llm.families.llama import AttentionBias
from blixt.llm.families.parts import Roped, Windows, every, one, specs_of, width_of
from blixt.llm.families.ropes import FULL, SLIDING, Rope, parameters_of
from blixt.llm.families.tables import ENDS, WRAPPED, attention, gated, llama, norms
from blixt.llm.weights.rules import RuleTable

FIXED: Json = {"norm_offset": 1.0}
CAUSAL_ONLY = {"use_bidirectional_attention": (False,)}


@dataclass(frozen=True)
class Embedding:
    """The embeddings are multiplied by the root of the width."""

    def read(self, keys: Keys, found: Json) -> None:
        """Fill in `embed_scale`."""
        found["embed_scale"] = found["d"] ** 0.5

    def write(self, config: ModelConfig) -> Json:
        """Nothing: it follows from the width."""
        return {}


@dataclass(frozen=True)
class GemmaActivation:
    """`hidden_activation`, or the older `hidden_act`, whose "gelu" always meant the tanh form here."""

    def read(self, keys: Keys, found: Json) -> None:
        """Fill in `act`."""
        old, new = keys.take("hidden_act", "gelu"), keys.take("hidden_activation", None)
        name = new or ("gelu_pytorch_tanh" if old == "gelu" else old)
        found["act"] = activation("hidden_activation").load(name)

    def write(self, config: ModelConfig) -> Json:
        """Both keys."""
        name = activation().save(config.act)
        return {"hidden_act": name, "hidden_activation": name}


@dataclass(frozen=True)
class QueryScale:
    """`query_pre_attn_scalar`: scores are divided by its root."""

    def read(self, keys: Keys, found: Json) -> None:
        """Fill in `query_scale`."""
        found["query_scale"] = keys.take("query_pre_attn_scalar", 256) ** -0.5

    def write(self, config: ModelConfig) -> Json:
        """The scalar, a whole number where it is one."""
        value = one(config, [spec.query_scale for spec in config.specs], "query_scale") ** -2
        whole = round(value)
        return {"query_pre_attn_scalar": whole if abs(value - whole) < 1e-6 * value else value}


def softcap(theirs: str, ours: str, default: float) -> Key:
    """The key of a softcap, which null switches off."""
    return Key(theirs, ours, default, null=0.0, save=lambda cap: cap or None)


HEAD_DIM = Key("head_dim", "head_dim", 256)

GEMMA = Family(
    "gemma",
    "GemmaForCausalLM",
    (*sizes(tie=True, num_key_value_heads=16), HEAD_DIM),
    llama,
    (AttentionBias(), GemmaActivation(), Embedding(), Roped()),
    FIXED,
    CAUSAL_ONLY,
)


def sandwich_rules(config: ModelConfig) -> RuleTable:
    """A norm before and after attention, before and after the MLP."""
    around = norms(
        attn_norm="input_layernorm",
        attn_post_norm="post_attention_layernorm",
        mlp_norm="pre_feedforward_layernorm",
        mlp_post_norm="post_feedforward_layernorm",
    )
    return [*ENDS, *around, *attention(config), *gated(config), *WRAPPED]


GEMMA2 = Family(
    "gemma2",
    "Gemma2ForCausalLM",
    (
        *sizes(tie=True, num_key_value_heads=4),
        HEAD_DIM,
        softcap("final_logit_softcapping", "softcap_logits", 30.0),
        softcap("attn_logit_softcapping", "softcap_attn", 50.0),
    ),
    sandwich_rules,
    (AttentionBias(), GemmaActivation(), Embedding(), QueryScale(), Roped(), Windows(4096, every(2))),
    {**FIXED, "norm_place": "sandwich"},
    {**CAUSAL_ONLY, "cache_implementation": ("hybrid",)},
)


@dataclass(frozen=True)
class RopeByType:
    """One rotary position embedding for layers with a window, another for those without.

    Attributes:
        full: Defaults of full layers.
        sliding: Defaults of sliding layers.
        sliding_key: What transformers 4 calls the base of sliding layers; "" where it is that of full ones.
    """

    full: Rope
    sliding: Rope
    sliding_key: str = ""

    def read(self, keys: Keys, found: Json) -> None:
        """Fill in the layers' ropes."""
        width, context = width_of(found), found["context"]
        given = keys.take("rope_parameters", {})
        nested = FULL in given or SLIDING in given
        by_type: Json = given if nested else {FULL: given}
        full: Json = {**(by_type.get(FULL) or {}), **keys.take("rope_scaling", {})}
        base = keys.take("rope_theta", self.full.base)
        full.setdefault("rope_theta", base)
        sliding: Json = dict(by_type.get(SLIDING) or {})
        local = keys.take(self.sliding_key, self.sliding.base) if self.sliding_key else full["rope_theta"]
        sliding.setdefault("rope_theta", local)
        ropes = {
            "full": self.full.spec(full, width, context),
            "sliding": self.sliding.spec(sliding, width, context),
        }
        found["layer_specs"] = tuple(replace(spec, rope=ropes[spec.attn]) for spec in specs_of(found))

    def write(self, config: ModelConfig) -> Json:
        """Both versions' keys."""
        full, sliding = self._of(config, "full"), self._of(config, "sliding")
        width, context = config.head_dim, config.context
        by_type = {FULL: parameters_of(full, width, context), SLIDING: parameters_of(sliding, width, context)}
        scaling = {name: value for name, value in by_type[FULL].items() if name != "rope_theta"}
        data: Json = {"rope_parameters": by_type, "rope_theta": full.base}
        data["rope_scaling"] = scaling if full.kind != "default" else None
        if self.sliding_key:
            data[self.sliding_key] = sliding.base
        return data

    def _of(self, config: ModelConfig, attn: str) -> RopeSpec:
        found = one(
            config, [spec.rope for spec in config.specs if spec.attn == attn], f"rope of {attn} layers"
        )
        defaults = self.full if attn == "full" else self.sliding
        return found or RopeSpec(base=defaults.base)


GEMMA3 = Family(
    "gemma3_text",
    "Gemma3ForCausalLM",
    (
        *sizes(
            tie=True,
            vocab_size=262_208,
            hidden_size=2304,
            intermediate_size=9216,
            num_hidden_layers=26,
            num_attention_heads=8,
            num_key_value_heads=4,
            max_position_embeddings=131_072,
        ),
        HEAD_DIM,
        softcap("final_logit_softcapping", "softcap_logits", 0.0),
        softcap("attn_logit_softcapping", "softcap_attn", 0.0),
    ),
    sandwich_rules,
    (
        AttentionBias(),
        GemmaActivation(),
        Embedding(),
        QueryScale(),
        Windows(4096, every(6), pattern=6),
        RopeByType(Rope(1_000_000.0), Rope(10_000.0), "rope_local_base_freq"),
    ),
    {**FIXED, "norm_place": "sandwich", "qk_norm": "head"},
    {**CAUSAL_ONLY, "cache_implementation": ("hybrid",), "mm_tokens_per_image": (256,)},
)

FAMILIES = (GEMMA, GEMMA2, GEMMA3)
