"""A model's configuration as GGUF metadata: the way back from `config`."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from blixt.llm.config import LayerSpec, ModelConfig
from blixt.llm.errors import ConfigError
from blixt.llm.specs import RopeSpec
from blixt.llm.weights.gguf.archs import Arch, written_as
from blixt.llm.weights.gguf.rope import FREQS, LONG, SHORT, llama3_divisors
from blixt.llm.weights.gguf.special import SIGMOID, SOFTMAX


def describe(config: ModelConfig) -> dict[str, Any]:
    """The keys that llama.cpp reads a model's shape from, the architecture's name first.

    Raises:
        ConfigError: The family is not written, or its rope is stretched in a way that GGUF cannot say.
    """
    name, arch = written_as(config.model_type)
    values = dict(_values(config, arch))
    return {"general.architecture": name} | {f"{name}.{key}": value for key, value in values.items()}


def rope_tensors(config: ModelConfig) -> dict[str, Tensor]:
    """The divisors of rotary frequencies that GGUF keeps as tensors, float32."""
    rope = _main(config).rope
    if rope is None:
        return {}
    if rope.kind == "llama3":
        return {FREQS: llama3_divisors(rope.base, rope.dim, _llama3(rope))}
    if rope.kind == "longrope":
        return {
            SHORT: torch.tensor(rope.short_factors, dtype=torch.float32),
            LONG: torch.tensor(rope.long_factors, dtype=torch.float32),
        }
    return {}


def _values(config: ModelConfig, arch: Arch) -> Iterator[tuple[str, Any]]:
    yield "vocab_size", config.vocab
    yield "context_length", config.context
    yield "embedding_length", config.d
    yield "block_count", config.layers
    yield "feed_forward_length", _dense_width(config)
    yield "attention.head_count", config.heads
    yield from _heads(config)
    yield arch.eps, float(config.norm_eps)
    if "use_parallel_residual" in arch.keys:
        yield "use_parallel_residual", config.norm_place != "pre"
    yield from _windows(config)
    yield from _rope(config)
    yield from _scales(config, arch)
    yield from _experts(config, arch)


def _dense_width(config: ModelConfig) -> int:
    return next((spec.d_ff for spec in config.specs if spec.mlp != "moe"), config.d_ff)


def _heads(config: ModelConfig) -> Iterator[tuple[str, Any]]:
    if config.mla is None:
        yield "attention.head_count_kv", config.kv_heads
        yield "attention.key_length", config.head_dim
        yield "attention.value_length", config.head_dim
        return
    mla = config.mla
    if mla.q_rank:
        yield "attention.q_lora_rank", mla.q_rank
    yield "attention.kv_lora_rank", mla.kv_rank
    # In the latent space, where llama.cpp attends, there is one key for all heads.
    yield "attention.head_count_kv", 1
    yield "attention.key_length", mla.kv_rank + mla.rope_dim
    yield "attention.value_length", mla.kv_rank
    yield "attention.key_length_mla", mla.nope_dim + mla.rope_dim
    yield "attention.value_length_mla", mla.v_dim


def _windows(config: ModelConfig) -> Iterator[tuple[str, Any]]:
    windows = [spec.window for spec in config.specs if spec.attn == "sliding"]
    if windows:
        yield "attention.sliding_window", windows[0]


def _rope(config: ModelConfig) -> Iterator[tuple[str, Any]]:
    rope = _main(config).rope
    if rope is None:
        return
    yield "rope.freq_base", float(rope.base)
    yield "rope.dimension_count", rope.dim
    if rope.kind in ("linear", "yarn"):
        yield "rope.scaling.type", rope.kind
        yield "rope.scaling.factor", float(rope.factor)
    elif rope.kind not in ("default", "llama3", "longrope"):
        raise ConfigError(f"RopeSpec(kind={rope.kind!r}): GGUF has no way to say this")
    if rope.original_context and rope.kind != "llama3":
        yield "rope.scaling.original_context_length", rope.original_context
    if rope.kind == "yarn" and rope.mscale_all_dim:
        yield "rope.scaling.yarn_log_multiplier", 0.1 * rope.mscale_all_dim
    if rope.kind == "longrope" and rope.attention_factor:
        yield "rope.scaling.attn_factor", float(rope.attention_factor)


def _scales(config: ModelConfig, arch: Arch) -> Iterator[tuple[str, Any]]:
    if config.softcap_attn:
        yield "attn_logit_softcapping", float(config.softcap_attn)
    if config.softcap_logits:
        yield "final_logit_softcapping", float(config.softcap_logits)
    if "embedding_multiplier" in arch.keys.values():  # Granite; its logits are divided by the file's number
        yield "attention.scale", float(_main(config).query_scale)
        yield "embedding_scale", float(config.embed_scale)
        yield "residual_scale", float(config.resid_scale)
        yield "logit_scale", 1.0 / config.logits_scale
    elif "logit_scale" in arch.keys:
        yield "logit_scale", float(config.logits_scale)


def _experts(config: ModelConfig, arch: Arch) -> Iterator[tuple[str, Any]]:
    moe = config.moe
    if moe is None:
        return
    yield "expert_count", moe.experts
    yield "expert_used_count", moe.top_k
    yield "expert_feed_forward_length", moe.d_ff
    sparse = [index for index, spec in enumerate(config.specs) if spec.mlp == "moe"]
    if "interleave_moe_layer_step" in arch.keys:
        yield "interleave_moe_layer_step", sparse[0] + 1
    elif "expert_shared_count" in arch.keys:
        yield "leading_dense_block_count", sparse[0] if sparse else config.layers
        yield "expert_shared_count", moe.shared_d_ff // moe.d_ff
        yield "expert_weights_scale", float(moe.scale)
        yield "expert_weights_norm", moe.normalise
        yield "expert_gating_func", SIGMOID if moe.score == "sigmoid" else SOFTMAX
        yield "expert_group_count", moe.groups
        yield "expert_group_used_count", moe.top_groups
    elif moe.shared_d_ff:
        yield "expert_shared_feed_forward_length", moe.shared_d_ff


def _main(config: ModelConfig) -> LayerSpec:
    """The layer that the file's keys speak of: where there is one, a layer that sees all and is turned."""
    ranked = sorted(config.specs, key=lambda spec: (spec.rope is None, spec.attn != "full"))
    return ranked[0]


def _llama3(rope: RopeSpec) -> dict[str, float]:
    return {
        "factor": rope.factor,
        "low_freq_factor": rope.low_freq_factor,
        "high_freq_factor": rope.high_freq_factor,
        "original_max_position_embeddings": rope.original_context,
    }
