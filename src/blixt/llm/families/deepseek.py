"""DeepSeek V2, V3 and R1: latent attention, grouped experts beside shared ones."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from blixt.llm.config import MLASpec, ModelConfig, RopeSpec
from blixt.llm.families.base import Family, activation, sizes
from blixt.llm.families.keys import Json, Keys, unsupported
from blixt.llm.families.parts import Experts, one
from blixt.llm.families.ropes import Rope, only_rope
from blixt.llm.families.tables import ENDS, PRE_NORMS, experts, gated, layers_with, linear, norms
from blixt.llm.weights.rules import Rule, RuleTable, Skip

GROUPED = (
    ("routed_scaling_factor", "scale", 1.0),
    ("n_group", "groups", 1),
    ("topk_group", "top_groups", 1),
)
"""The keys of experts in groups."""


def first_dense(default: int) -> Callable[[Keys, int], Sequence[int]]:
    """The layers before `first_k_dense_replace` are dense."""
    return lambda keys, layers: range(min(layers, keys.take("first_k_dense_replace", default)))


def mscale(rope: RopeSpec) -> float:
    """What YaRN multiplies the scores by, beside its attention factor: both queries and keys grow."""
    if rope.kind == "default" or not rope.mscale_all_dim or rope.factor <= 1:
        return 1.0
    return (0.1 * rope.mscale_all_dim * math.log(rope.factor) + 1.0) ** 2


@dataclass(frozen=True)
class Latent:
    """Latent attention, its rope and its scale.

    Attributes:
        switch: Whether `rope_interleave` is a key of the family; else pairs always are neighbours.
    """

    switch: bool

    def _rope(self, interleaved: bool) -> Rope:
        return Rope(interleaved=interleaved)

    def read(self, keys: Keys, found: Json) -> None:
        """Fill in `mla`, `rope`, `query_scale` and the biases."""
        mla = MLASpec(
            kv_rank=keys.take("kv_lora_rank", 512),
            rope_dim=keys.take("qk_rope_head_dim", 64),
            nope_dim=keys.take("qk_nope_head_dim", 128),
            v_dim=keys.take("v_head_dim", 128),
            q_rank=(keys.take("q_lora_rank", 0) if keys.has("q_lora_rank") else 1536),
        )
        keys.take("head_dim", None)  # says one of the widths above again, which one depends on the writer
        keys.expect("qk_head_dim", mla.nope_dim + mla.rope_dim)
        interleaved = keys.take("rope_interleave", True) if self.switch else True
        found["mla"] = mla
        found["kv_heads"] = found["heads"]
        found["rope"], _ = self._rope(interleaved).read(keys, mla.rope_dim, found["context"])
        found["query_scale"] = (mla.nope_dim + mla.rope_dim) ** -0.5 * mscale(found["rope"])
        found["qkv_bias"] = found["out_bias"] = keys.take("attention_bias", False)

    def write(self, config: ModelConfig) -> Json:
        """The keys that `read` reads."""
        mla, rope = config.mla, only_rope(config)
        if mla is None:
            raise unsupported("mla", None, f"a model of type {config.model_type!r} has latent attention")
        one(config, [spec.query_scale for spec in config.specs], "query_scale")
        data: Json = {
            "kv_lora_rank": mla.kv_rank,
            "q_lora_rank": mla.q_rank or None,
            "qk_rope_head_dim": mla.rope_dim,
            "qk_nope_head_dim": mla.nope_dim,
            "v_head_dim": mla.v_dim,
            "attention_bias": config.qkv_bias,
        }
        if self.switch:
            data["rope_interleave"] = rope.interleaved
        return {**data, **self._rope(rope.interleaved).write(rope, mla.rope_dim, config.context)}


@dataclass(frozen=True)
class TopkMethod:
    """`topk_method` of DeepSeek V2: experts from the best groups, or from all."""

    inner: Experts

    def read(self, keys: Keys, found: Json) -> None:
        """Fill in `moe`.

        Raises:
            ConfigError: Another method.
        """
        method = keys.take("topk_method", "greedy")
        if method not in ("greedy", "group_limited_greedy"):
            raise unsupported("topk_method", method, "only greedy and group_limited_greedy are known")
        groups = (keys.take("n_group", 1), keys.take("topk_group", 1))
        if method == "group_limited_greedy":
            keys.give(n_group=groups[0], topk_group=groups[1])
        self.inner.read(keys, found)

    def write(self, config: ModelConfig) -> Json:
        """The method and the groups."""
        grouped = config.moe is not None and config.moe.groups > 1
        return {**self.inner.write(config), "topk_method": "group_limited_greedy" if grouped else "greedy"}


def deepseek_rules(config: ModelConfig) -> RuleTable:
    """Latents down and up, experts one by one; what predicts further tokens (V3) is passed over."""
    assert config.mla is not None
    latent = [
        *linear("attn.kv_a", "self_attn.kv_a_proj_with_mqa", config.qkv_bias),
        *norms(**{"attn.kv_a_norm": "self_attn.kv_a_layernorm"}),
        *linear("attn.kv_b", "self_attn.kv_b_proj"),
        *linear("attn.out", "self_attn.o_proj", config.out_bias),
    ]
    if config.mla.q_rank:
        latent += linear("attn.q_a", "self_attn.q_a_proj", config.qkv_bias)
        latent += norms(**{"attn.q_a_norm": "self_attn.q_a_layernorm"})
        latent += linear("attn.q_b", "self_attn.q_b_proj")
    else:
        latent += linear("attn.q", "self_attn.q_proj")
    mixture = experts(
        config,
        "mlp.experts.{e}.{part}_proj.weight",
        "mlp.gate",
        "mlp.shared_experts",
        layers=layers_with(config, "moe"),
    )
    plain: list[Rule] = gated(config, layers=layers_with(config, "gated"))
    draft = Skip(rf"model\.layers\.{config.layers}\..*")
    return [*ENDS, *PRE_NORMS, *latent, *mixture, *plain, draft]


BOOKKEEPING = {
    "ep_size": (1,),
    "moe_layer_freq": (1,),
    "aux_loss_alpha": (),
    "seq_aux": (True, False),
    "num_nextn_predict_layers": (0, 1),
    "num_mtp_layers": (0, 1),
}


def _mixture(score: str, group_score: str, normalise: bool, **fixed: object) -> Experts:
    return Experts(
        "n_routed_experts",
        {"score": score, "group_score": group_score, "normalise": normalise, **fixed},
        keys=(*GROUPED, ("norm_topk_prob", "normalise", True)) if normalise else GROUPED,
        shared="n_shared_experts",
        shared_unit=True,
        dense=first_dense(3 if normalise else 0),
        dense_back=lambda dense, _: {"first_k_dense_replace": len(dense)},
        top_k=8 if normalise else None,
    )


DEEPSEEK_V2 = Family(
    "deepseek_v2",
    "DeepseekV2ForCausalLM",
    (*sizes(), activation()),
    deepseek_rules,
    (Latent(switch=False), TopkMethod(_mixture("softmax", "max", normalise=False))),
    {},
    {**BOOKKEEPING, "scoring_func": ("softmax",), "mlp_bias": (False,), "norm_topk_prob": (False,)},
)

DEEPSEEK_V3 = Family(
    "deepseek_v3",
    "DeepseekV3ForCausalLM",
    (*sizes(), activation()),
    deepseek_rules,
    (Latent(switch=True), _mixture("sigmoid", "top2", normalise=True, correction=True)),
    {},
    {**BOOKKEEPING, "scoring_func": ("sigmoid",), "topk_method": ("noaux_tc",)},
)

FAMILIES = (DEEPSEEK_V2, DEEPSEEK_V3)
