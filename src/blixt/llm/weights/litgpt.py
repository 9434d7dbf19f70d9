"""Read a litgpt checkpoint: `lit_model.pth` with litgpt's names, `model_config.yaml` with its fields."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from blixt.llm.config import LayerSpec, ModelConfig, MoESpec, RopeSpec
from blixt.llm.errors import ConfigError, LLMError
from blixt.llm.model import GPT
from blixt.llm.weights.fill import Plan
from blixt.llm.weights.place import targets
from blixt.llm.weights.rules import Op, Rule, RuleTable, Split, SplitGroups, Stack
from blixt.llm.weights.source import Source
from blixt.llm.weights.torch_file import TorchFile

_WEIGHTS, _CONFIG = "lit_model.pth", "model_config.yaml"
_FIRST = (
    "llama",
    "mixtral",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "gemma3_text",
    "gpt_neox",
    "stablelm",
    "phi",
)
_NOT_READ = ("latent_attention", "n_expert_groups", "n_shared_expert", "first_k_dense_replace")


def open_litgpt(directory: Path) -> tuple[Plan, ModelConfig]:
    """A litgpt checkpoint's tensors, and the configuration in the first family that can say it.

    Raises:
        ConfigError: `model_config.yaml` is missing, or describes what no family here can say.
        WeightsError: `lit_model.pth` is damaged, or its tensors do not fit.
    """
    fields = _read_fields(directory / _CONFIG)
    source = TorchFile(directory / _WEIGHTS)
    config = _in_a_family(replace(_config(fields, _is_tied(source)), eos=_ends(directory)))
    shapes = {name: slot.tensor.shape for name, slot in targets(GPT.empty(config)).items()}
    return Plan(source, _rules(config, source, shapes), config, shapes), config


def _read_fields(path: Path) -> dict[str, Any]:
    import yaml

    try:
        fields: Any = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist: litgpt writes it beside {_WEIGHTS}") from None
    except yaml.YAMLError:
        raise ConfigError(f"{path} is damaged: it is not YAML") from None
    if not isinstance(fields, dict) or "n_embd" not in fields:
        raise ConfigError(f"{path} is not a configuration of litgpt: it lacks n_embd")
    known = cast("dict[str, Any]", fields)
    for name in _NOT_READ:
        if known.get(name):
            raise ConfigError(f"{path} says {name}={known[name]!r}, which is not read from litgpt")
    return known


def _config(fields: Mapping[str, Any], tied: bool) -> ModelConfig:
    heads, bias = int(fields["n_head"]), bool(fields.get("bias", True))
    gemma = fields["mlp_class_name"] == "GemmaMLP"  # litgpt's RMSNorm adds 1 for these models
    layer = fields.get("norm_class_name", "LayerNorm") == "LayerNorm"
    scalar = fields.get("attention_scores_scalar")
    return ModelConfig(
        vocab=int(fields["padded_vocab_size"]),
        d=int(fields["n_embd"]),
        layers=int(fields["n_layer"]),
        heads=heads,
        kv_heads=int(fields.get("n_query_groups") or heads),
        head_dim=int(fields["head_size"]),
        d_ff=int(fields["intermediate_size"]),
        context=int(fields["block_size"]),
        norm_eps=float(fields.get("norm_eps", 1e-5)),
        tie=tied,
        norm="layer" if layer else "rms",
        norm_offset=1.0 if gemma and not layer else 0.0,
        norm_place=_norm_place(fields),
        qk_norm=_qk_norm(fields),
        qkv_bias=bias or bool(fields.get("attn_bias")),
        out_bias=bias,
        mlp_bias=bias,
        head_bias=bool(fields.get("lm_head_bias")),
        act=_act(fields),
        query_scale=float(scalar) ** -0.5 if scalar else 0.0,
        softcap_attn=float(fields.get("attention_logit_softcapping") or 0.0),
        softcap_logits=float(fields.get("final_logit_softcapping") or 0.0),
        embed_scale=float(fields["n_embd"]) ** 0.5 if fields.get("scale_embeddings") else 1.0,
        moe=_experts(fields),
        layer_specs=tuple(_layer(fields, index) for index in range(int(fields["n_layer"]))),
    )


def _norm_place(fields: Mapping[str, Any]) -> Any:
    if fields.get("parallel_residual", True):
        return "parallel_shared" if fields.get("shared_attention_norm") else "parallel"
    if not fields.get("norm_1", True):
        return "post"
    return "sandwich" if fields.get("post_attention_norm") else "pre"


def _qk_norm(fields: Mapping[str, Any]) -> Any:
    if not fields.get("norm_qk"):
        return "none"
    return "full" if fields.get("norm_qk_type") == "olmo2" else "head"


def _act(fields: Mapping[str, Any]) -> Any:
    if fields["mlp_class_name"] in ("LLaMAMLP", "LLaMAMoE"):
        return "silu"
    return "gelu_tanh" if fields.get("gelu_approximate") == "tanh" else "gelu"


def _experts(fields: Mapping[str, Any]) -> MoESpec | None:
    if fields["mlp_class_name"] != "LLaMAMoE":
        return None
    return MoESpec(
        experts=int(fields["n_expert"]),
        top_k=int(fields["n_expert_per_token"]),
        d_ff=int(fields.get("moe_intermediate_size") or fields["intermediate_size"]),
    )


def _layer(fields: Mapping[str, Any], index: int) -> LayerSpec:
    windows, ropes = fields.get("sliding_window_indices"), fields.get("rope_indices")
    window = int(fields.get("sliding_window_size") or 0)
    if windows is not None and not windows[index]:
        window = 0
    local = fields.get("rope_local_base_freq") if ropes is not None and ropes[index] else None
    mlp = {"GptNeoxMLP": "plain", "LLaMAMoE": "moe"}.get(fields["mlp_class_name"], "gated")
    return LayerSpec(
        attn="sliding" if window else "full", window=window, rope=_rope(fields, local), mlp=cast("Any", mlp)
    )


def _rope(fields: Mapping[str, Any], local_base: float | None) -> RopeSpec:
    width = int(float(fields.get("rotary_percentage", 0.25)) * int(fields["head_size"]))
    plain = RopeSpec(
        base=float(local_base or fields.get("rope_base", 10_000)),
        dim=width,
        interleaved=bool(fields.get("rope_interleave")),
    )
    if local_base is not None:
        return plain
    ratio = float(fields.get("rope_condense_ratio", 1))
    stretched: Mapping[str, Any] = fields.get("rope_adjustments") or {}
    if "original_max_seq_len" not in stretched:
        factor = float(stretched.get("factor", ratio))
        return replace(plain, kind="linear", factor=factor) if factor != 1 else plain
    return replace(
        plain,
        kind="llama3",
        factor=float(stretched["factor"]),
        low_freq_factor=float(stretched["low_freq_factor"]),
        high_freq_factor=float(stretched["high_freq_factor"]),
        original_context=int(stretched["original_max_seq_len"]),
    )


def _rules(config: ModelConfig, source: Source, shapes: Mapping[str, Any]) -> RuleTable:
    block, fused = "transformer.h.{i}.", _qkv(config, source)
    pairs = [("embed", "transformer.wte"), ("norm", "transformer.ln_f"), ("head", "lm_head")]
    inner = {
        "attn_norm": "norm_1",
        "attn.out": "attn.proj",
        "attn.q_norm": "attn.norm_q",
        "attn.k_norm": "attn.norm_k",
        "attn_post_norm": "post_attention_norm",
        "mlp_norm": "norm_2",
        "mlp_post_norm": "post_mlp_norm",
        "mlp.gate": "mlp.fc_1",
        "mlp.up": "mlp.fc_2" if config.specs[0].mlp == "gated" else "mlp.fc",
        "mlp.down": "mlp.proj",
        "mlp.router": "mlp.gate",
    }
    pairs += [(f"blocks.{{i}}.{ours}", block + theirs) for ours, theirs in inner.items()]
    there = {_template(name) for name in shapes} | {"head.weight"}
    rules = [
        Rule(f"{ours}.{suffix}", f"{theirs}.{suffix}")
        for ours, theirs in pairs
        for suffix in ("weight", "bias")
        if f"{ours}.{suffix}" in there
    ]
    experts = config.moe.experts if config.moe else 0
    for ours, theirs in (("gate", "fc_1"), ("up", "fc_2"), ("down", "proj")):
        if f"blocks.{{i}}.mlp.experts.{ours}" in there:
            name = f"{block}mlp.experts.{{e}}.{theirs}.weight"
            rules.append(Rule(f"blocks.{{i}}.mlp.experts.{ours}", name, Stack(), experts=experts))
    return [*rules, *(rule for rule in fused if rule.ours[0] in there)]


def _qkv(config: ModelConfig, source: Source) -> Iterator[Rule]:
    """q, k, v in one tensor: one after another, or by group in checkpoints of before 2025."""
    q, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
    old = "transformer.h.0.attn.attn.weight" in source.infos
    grouped = SplitGroups(config.kv_heads, (q // config.kv_heads, config.head_dim, config.head_dim))
    op: Op = grouped if old else Split((q, kv, kv))
    for suffix in ("weight", "bias"):
        ours = tuple(f"blocks.{{i}}.attn.{part}.{suffix}" for part in "qkv")
        yield Rule(ours, f"transformer.h.{{i}}.attn.{'attn' if old else 'qkv'}.{suffix}", op)


def _template(name: str) -> str:
    parts = name.split(".")
    return ".".join(["blocks", "{i}", *parts[2:]]) if parts[0] == "blocks" else name


def _is_tied(source: Source) -> bool:
    """litgpt always keeps both matrices; equal ones were one."""
    if (
        not {"lm_head.weight", "transformer.wte.weight"} <= source.infos.keys()
        or "lm_head.bias" in source.infos
    ):
        return False
    return torch.equal(source.get("lm_head.weight"), source.get("transformer.wte.weight"))


def _ends(directory: Path) -> tuple[int, ...]:
    from blixt.llm.tokenizer import Tokenizer

    try:
        return Tokenizer.load(directory).eos
    except LLMError:
        return ()


def _in_a_family(config: ModelConfig) -> ModelConfig:
    """The configuration under the first model type whose `config.json` can say it."""
    from blixt.llm.families import families, family_of

    for model_type in dict.fromkeys((*_FIRST, *families())):
        try:
            family = family_of(model_type)
            return family.read(family.write(replace(config, model_type=model_type)))
        except ConfigError:
            continue
    raise ConfigError(
        "no family here can say what this litgpt configuration describes: train or convert it there"
    )
