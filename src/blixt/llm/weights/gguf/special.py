"""What an architecture's metadata say in a way of their own, or llama.cpp takes for granted."""

from collections.abc import Callable, Mapping
from typing import Any

from blixt.llm.weights.gguf.rope import rope_scaling
from blixt.llm.weights.source import Source

Values = Mapping[str, Any]
"""An architecture's metadata, without its name in front."""

# Kept in llama.cpp's code rather than in the file: the layers whose scores are scaled by d / heads.
_SCALED_BY_WIDTH = {("gemma2", 46), ("gemma3", 62)}
_WITHOUT_QK_NORM = 128  # llama.cpp knows the Llama 4 without norms of queries by its number of experts
_YARN_LOG = 0.1  # YaRN's own factor, which llama.cpp writes into the file's multiplier


def special(arch: str, values: Values, source: Source) -> dict[str, Any]:
    """The keys of `config.json` that need more than another name.

    Args:
        arch: `general.architecture`.
        values: Its metadata.
        source: Its tensors.
    """
    return _READERS[arch](values, source) if arch in _READERS else {}


def _alternating(layers: int, every: int) -> list[str]:
    """Every so many layers one sees everything, the others a window."""
    return ["sliding_attention" if (i + 1) % every else "full_attention" for i in range(layers)]


def _query_scalar(name: str, values: Values) -> int:
    if (name, values["block_count"]) in _SCALED_BY_WIDTH:
        return int(values["embedding_length"]) // int(values["attention.head_count"])
    return int(values["attention.key_length"])


def _gemma2(values: Values, source: Source) -> dict[str, Any]:
    return {
        "layer_types": _alternating(values["block_count"], 2),
        "query_pre_attn_scalar": _query_scalar("gemma2", values),
    }


def _gemma3(values: Values, source: Source) -> dict[str, Any]:
    return {
        "layer_types": _alternating(
            values["block_count"], int(values.get("attention.sliding_window_pattern", 6))
        ),
        "query_pre_attn_scalar": _query_scalar("gemma3", values),
        "rope_local_base_freq": float(values.get("rope.freq_base_swa", 10_000.0)),
    }


def _cohere2(values: Values, source: Source) -> dict[str, Any]:
    return {"layer_types": _alternating(values["block_count"], 4)}


def _partial(values: Values, source: Source) -> dict[str, Any]:
    width = values.get("attention.key_length") or values["embedding_length"] // values["attention.head_count"]
    turned = values.get("rope.dimension_count", width)
    return {"partial_rotary_factor": turned / width}


def _phi3(values: Values, source: Source) -> dict[str, Any]:
    original = values.get("rope.scaling.original_context_length", values["context_length"])
    return {**_partial(values, source), "original_max_position_embeddings": original}


def _stablelm(values: Values, source: Source) -> dict[str, Any]:
    return {
        **_partial(values, source),
        "use_qkv_bias": "blk.0.attn_q.bias" in source.infos,
        "use_parallel_residual": "blk.0.ffn_norm.weight" not in source.infos,
        "qk_layernorm": "blk.0.attn_q_norm.weight" in source.infos,
    }


def _falcon(values: Values, source: Source) -> dict[str, Any]:
    two = "blk.0.attn_norm_2.weight" in source.infos
    new = two or values["attention.head_count_kv"] > 1
    return {
        "new_decoder_architecture": new,
        "num_ln_in_parallel_attn": (2 if two else 1) if new else None,
        "multi_query": values["attention.head_count_kv"] == 1,
        "parallel_attn": True,
        "bias": "blk.0.attn_qkv.bias" in source.infos,
    }


def _gptneox(values: Values, source: Source) -> dict[str, Any]:
    return {**_partial(values, source), "attention_bias": "blk.0.attn_qkv.bias" in source.infos}


def _glm4(values: Values, source: Source) -> dict[str, Any]:
    return {**_partial(values, source), "attention_bias": "blk.0.attn_q.bias" in source.infos}


def _glm4moe(values: Values, source: Source) -> dict[str, Any]:
    draft = int(values.get("nextn_predict_layers", 0))  # they count as layers there
    return {
        **_glm4(values, source),
        "num_hidden_layers": values["block_count"] - draft,
        "use_qk_norm": "blk.0.attn_q_norm.weight" in source.infos,
    }


def _gpt_oss(values: Values, source: Source) -> dict[str, Any]:
    scaling = rope_scaling(values, source)
    return {"rope_scaling": {**scaling, "truncate": False}} if scaling else {}


def _llama4(values: Values, source: Source) -> dict[str, Any]:
    return {"use_qk_norm": values["expert_count"] != _WITHOUT_QK_NORM}


def _deepseek(values: Values, source: Source) -> dict[str, Any]:
    latent = "attention.key_length_mla" in values  # else the file is of the time before keys were absorbed
    key, value = (values[f"attention.{part}_length{'_mla' if latent else ''}"] for part in ("key", "value"))
    found: dict[str, Any] = {
        "qk_nope_head_dim": key - values["rope.dimension_count"],
        "v_head_dim": value,
        "q_lora_rank": values.get("attention.q_lora_rank"),
    }
    if scaling := rope_scaling(values, source):
        if multiplier := float(values.get("rope.scaling.yarn_log_multiplier", 0.0)):
            scaling |= dict.fromkeys(("mscale", "mscale_all_dim"), round(multiplier / _YARN_LOG, 6))
        found["rope_scaling"] = scaling
    if values.get("expert_gating_func") == SIGMOID:
        return {**found, "norm_topk_prob": bool(values.get("expert_weights_norm", True))}
    grouped = int(values.get("expert_group_count", 1)) > 1
    return {**found, "topk_method": "group_limited_greedy" if grouped else "greedy"}


SOFTMAX, SIGMOID = 1, 2
"""`expert_gating_func`: what router logits become."""

_READERS: dict[str, Callable[[Values, Source], dict[str, Any]]] = {
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "cohere2": _cohere2,
    "phi3": _phi3,
    "stablelm": _stablelm,
    "falcon": _falcon,
    "gptneox": _gptneox,
    "phi2": _partial,
    "glm4": _glm4,
    "chatglm": _glm4,
    "glm4moe": _glm4moe,
    "gpt-oss": _gpt_oss,
    "llama4": _llama4,
    "deepseek2": _deepseek,
}
