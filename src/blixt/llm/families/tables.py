"""Weight rules that families share, under the names that Hugging Face's Llama began with."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from blixt.llm.config import ModelConfig
from blixt.llm.weights.rules import Alias, Op, Rule, RuleTable, Same, Skip, Split, Stack

LAYER = "model.layers.{i}."
OURS = "blocks.{i}."

ENDS = (
    Rule("embed.weight", "model.embed_tokens.weight"),
    Rule("norm.weight", "model.norm.weight"),
    Rule("head.weight", "lm_head.weight"),
    Skip(r".*\.rotary_emb\.inv_freq"),
)
"""The embedding, the last norm and the output layer."""

WRAPPED = (
    Alias("language_model.model.", "model."),
    Alias("model.language_model.", "model."),
    Alias("language_model.lm_head.", "lm_head."),
    Skip(r"(model\.)?(vision_tower|vision_model|multi_modal_projector)\..*"),
)
"""For a text model that also comes inside a multi-modal one: the wrapper's prefixes, and what is not text."""


def linear(ours: str, theirs: str, bias: bool = False, op: Op | None = None) -> list[Rule]:
    """The rules of one linear layer of a block: its weight and, where it has one, its bias."""
    ends = (".weight", ".bias") if bias else (".weight",)
    return [Rule(OURS + ours + end, LAYER + theirs + end, op or Same()) for end in ends]


def norm(ours: str, theirs: str, bias: bool = False) -> list[Rule]:
    """The rules of one norm of a block."""
    return linear(ours, theirs, bias)


def norms(**theirs: str) -> list[Rule]:
    """Norms of a block without bias: our name to the name on disk."""
    return [rule for ours, name in theirs.items() for rule in norm(ours, name)]


PRE_NORMS = norms(attn_norm="input_layernorm", mlp_norm="post_attention_layernorm")


def attention(config: ModelConfig, out: str = "o_proj") -> list[Rule]:
    """Query, key, value and output layers, with norms of queries and keys where there are any."""
    rules = [
        rule
        for name in ("q", "k", "v")
        for rule in linear(f"attn.{name}", f"self_attn.{name}_proj", config.qkv_bias)
    ]
    rules += linear("attn.out", f"self_attn.{out}", config.out_bias)
    bare = (config.qk_norm_kind or config.norm).endswith("bare")
    if config.qk_norm != "none" and not bare:
        rules += norms(**{"attn.q_norm": "self_attn.q_norm", "attn.k_norm": "self_attn.k_norm"})
    return rules


def gated(config: ModelConfig, inside: str = "mlp", layers: Sequence[int] | None = None) -> list[Rule]:
    """A gated MLP."""
    rules = [
        rule
        for name in ("gate", "up", "down")
        for rule in linear(f"mlp.{name}", f"{inside}.{name}_proj", config.mlp_bias)
    ]
    return only(rules, layers)


def fused_gated(config: ModelConfig) -> list[Rule]:
    """A gated MLP whose gate and up lie in one matrix."""
    width = config.d_ff
    return [
        fused(("mlp.gate.weight", "mlp.up.weight"), "mlp.gate_up_proj.weight", Split((width, width))),
        *linear("mlp.down", "mlp.down_proj"),
    ]


def plain(up: str, down: str, bias: bool = True, op: Op | None = None) -> list[Rule]:
    """An MLP of two layers."""
    rules = linear("mlp.up", up, bias) + linear("mlp.down", down, bias)
    return [replace(rule, op=op) if op and str(rule.ours).endswith("weight") else rule for rule in rules]


def fused(ours: Iterable[str], theirs: str, op: Op) -> Rule:
    """One tensor on disk that holds several of ours."""
    return Rule(tuple(OURS + name for name in ours), LAYER + theirs, op)


def experts(
    config: ModelConfig,
    names: str,
    router: str,
    shared: str = "",
    gate: str = "",
    layers: Sequence[int] | None = None,
) -> list[Rule]:
    """A mixture whose experts lie apart on disk.

    Args:
        config: The model's.
        names: Where an expert's three matrices are, with `{e}` for it and `{part}` for gate, up or down;
            several names for gate, up and down in turn are parted by spaces.
        router: The router's name.
        shared: The shared expert's beginning, or "".
        gate: The shared expert's gate, or "".
        layers: The layers that have one; None means all.
    """
    assert config.moe is not None
    parts = ("gate", "up", "down")
    paths = names.split() if " " in names else [names.replace("{part}", part) for part in parts]
    rules = [
        Rule(OURS + f"mlp.experts.{part}", LAYER + path, Stack(), experts=config.moe.experts)
        for part, path in zip(parts, paths, strict=True)
    ]
    rules += linear("mlp.router", router, config.moe.router_bias)
    if config.moe.correction:
        rules.append(Rule(OURS + "mlp.router.correction", LAYER + router + ".e_score_correction_bias"))
    if config.moe.shared_d_ff:
        rules += [r for part in parts for r in linear(f"mlp.shared.{part}", f"{shared}.{part}_proj")]
    if config.moe.shared_gate:
        rules += linear("mlp.shared_gate", gate)
    return only(rules, layers)


def only(rules: list[Rule], layers: Sequence[int] | None) -> list[Rule]:
    """The rules, for some layers."""
    return rules if layers is None else [replace(rule, layers=tuple(layers)) for rule in rules]


def layers_with(config: ModelConfig, *kinds: str) -> list[int]:
    """The layers whose MLP is of one of these kinds."""
    return [index for index, spec in enumerate(config.specs) if spec.mlp in kinds]


def llama(config: ModelConfig) -> RuleTable:
    """A Llama: norms before attention and MLP, everything under its usual name."""
    return [*ENDS, *PRE_NORMS, *attention(config), *gated(config), *WRAPPED]


QKV = ("attn.q", "attn.k", "attn.v")


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
