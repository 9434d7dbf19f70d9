"""Rules between GGUF's tensors and ours: one naming for every architecture, a few layouts of its own."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from blixt.llm.config import ModelConfig
from blixt.llm.weights.gguf.archs import Arch
from blixt.llm.weights.ops import regroup, split
from blixt.llm.weights.rules import Add, Op, Pairs, Reshape, Rule, RuleTable, Same, Skip, Split

_WHOLE = {"embed": "token_embd", "pos_embed": "position_embd", "norm": "output_norm", "head": "output"}
_BLOCK = {
    "attn_norm": "attn_norm",
    "attn.q": "attn_q",
    "attn.k": "attn_k",
    "attn.v": "attn_v",
    "attn.out": "attn_output",
    "attn.q_norm": "attn_q_norm",
    "attn.k_norm": "attn_k_norm",
    "attn.q_a": "attn_q_a",
    "attn.q_a_norm": "attn_q_a_norm",
    "attn.q_b": "attn_q_b",
    "attn.kv_a": "attn_kv_a_mqa",
    "attn.kv_a_norm": "attn_kv_a_norm",
    "attn_post_norm": "post_attention_norm",
    "mlp_norm": "ffn_norm",
    "mlp_post_norm": "post_ffw_norm",
    "mlp.gate": "ffn_gate",
    "mlp.up": "ffn_up",
    "mlp.down": "ffn_down",
    "mlp.router": "ffn_gate_inp",
    "mlp.shared_gate": "ffn_gate_inp_shexp",
    "mlp.shared.gate": "ffn_gate_shexp",
    "mlp.shared.up": "ffn_up_shexp",
    "mlp.shared.down": "ffn_down_shexp",
}
_EXPERTS = ("gate", "up", "down")
_LAYER = re.compile(r"blocks\.(\d+)\.")
_SKIPPED = (r"rope_freqs\.weight", r"rope_factors_(long|short)\.weight")


@dataclass(frozen=True)
class Latent:
    """Keys and values from the latent: one matrix with the heads' keys and values in turn, or two.

    llama.cpp keeps the keys' part transposed, as attention in the latent space multiplies by it.

    Attributes:
        heads: Of them.
        nope: Width of a head's key without its turned part.
        v: Width of a head's value.
    """

    heads: int
    nope: int
    v: int

    def load(self, theirs: list[Tensor]) -> list[Tensor]:
        """(H, R, nope) and (H, v, R) to (H * (nope + v), R)."""
        keys, values = theirs
        return [torch.cat([keys.transpose(1, 2), values], 1).flatten(0, 1)]

    def save(self, ours: list[Tensor]) -> list[Tensor]:
        """(H * (nope + v), R) to (H, R, nope) and (H, v, R)."""
        keys, values = split(regroup(ours[0], 0, (self.heads, -1)), (self.nope, self.v), 1)
        return [keys.transpose(1, 2), values]


def gguf_rules(
    config: ModelConfig, arch: Arch, names: Collection[str], there: Collection[str] = ()
) -> RuleTable:
    """The rules of one model.

    Args:
        config: The model's.
        arch: Of the file.
        names: The model's own tensors, as `GPT.empty(config)` has them.
        there: The file's tensors, which may be laid out as older files are; none for a new file.
    """
    layers: dict[str, list[int]] = {}
    for name in names:
        found = _LAYER.match(name)
        if found is None:
            layers[name] = []
        else:
            layers.setdefault(_LAYER.sub("blocks.{i}.", name, count=1), []).append(int(found[1]))
    rules = [
        Rule(rule.ours, rule.theirs, rule.op, layers=layers[_first(rule)] or None)
        for rule in _candidates(config, arch, layers.keys())
        if _first(rule) in layers
    ]
    if "head.weight" not in layers:
        rules.append(Rule("head.weight", "output.weight"))
    if config.mla is not None:
        rules.append(_latent(config, there))
    draft = rf"blk\.{config.layers}\..*"  # layers that predict further tokens
    return [*rules, *(Skip(pattern) for pattern in (*_SKIPPED, draft))]


def _latent(config: ModelConfig, there: Collection[str]) -> Rule:
    assert config.mla is not None
    ours, old = "blocks.{i}.attn.kv_b.weight", "blk.{i}.attn_kv_b.weight"
    if old.replace("{i}", "0") in there:
        return Rule(ours, old)
    both = ("blk.{i}.attn_k_b.weight", "blk.{i}.attn_v_b.weight")
    return Rule(ours, both, Latent(config.heads, config.mla.nope_dim, config.mla.v_dim))


def _candidates(config: ModelConfig, arch: Arch, ours: Collection[str]) -> Iterator[Rule]:
    """Rules for whatever a model may have; the caller keeps those of tensors it does have."""
    fused = _fused(config, arch)
    side_by_side = arch.names_parallel if config.norm_place == "parallel" else {}
    yield from fused
    taken = {name for rule in fused for name in rule.ours}
    for suffix in ("weight", "bias"):
        for name, theirs in _WHOLE.items():
            yield Rule(f"{name}.{suffix}", f"{theirs}.{suffix}", _op(config, arch, name))
        for name, theirs in (_BLOCK | arch.names | side_by_side).items():
            mine = f"blocks.{{i}}.{name}.{suffix}"
            if mine not in taken:
                yield Rule(mine, f"blk.{{i}}.{theirs}.{suffix}", _op(config, arch, name))
    for name in _EXPERTS:
        yield Rule(f"blocks.{{i}}.mlp.experts.{name}", f"blk.{{i}}.ffn_{name}_exps.weight")
        yield Rule(f"blocks.{{i}}.mlp.experts.{name}_bias", f"blk.{{i}}.ffn_{name}_exps.bias")
    yield Rule("blocks.{i}.attn.sinks", "blk.{i}.attn_sinks.weight")
    yield Rule("blocks.{i}.mlp.router.correction", "blk.{i}.exp_probs_b.bias")


def _fused(config: ModelConfig, arch: Arch) -> list[Rule]:
    rules: list[Rule] = []
    rows = (config.heads * config.head_dim, *[config.kv_heads * config.head_dim] * 2)
    for suffix in ("weight", "bias"):
        if arch.fused:
            parts = tuple(f"blocks.{{i}}.attn.{part}.{suffix}" for part in "qkv")
            rules.append(Rule(parts, f"blk.{{i}}.attn_qkv.{suffix}", Split(rows)))
        if arch.fused_mlp:
            parts = tuple(f"blocks.{{i}}.mlp.{part}.{suffix}" for part in ("gate", "up"))
            rules.append(Rule(parts, f"blk.{{i}}.ffn_up.{suffix}", Split((config.d_ff, config.d_ff))))
    return rules


def _op(config: ModelConfig, arch: Arch, name: str) -> Op:
    if name == "mlp.shared_gate":
        return Reshape((1, config.d), (config.d,))
    if name.endswith("norm"):
        # llama.cpp's norms multiply by what the file says, so the offset is in the file.
        return Add(-config.norm_offset) if config.norm_offset else Same()
    if arch.pairs and name in ("attn.q", "attn.k"):
        return Pairs(config.heads if name == "attn.q" else config.kv_heads)
    return Same()


def _first(rule: Rule) -> str:
    return rule.ours if isinstance(rule.ours, str) else rule.ours[0]
