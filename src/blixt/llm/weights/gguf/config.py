"""A GGUF file's metadata as a Hugging Face `config.json`, which the families then read."""

from collections.abc import Mapping
from typing import Any

from blixt.llm.config import ModelConfig
from blixt.llm.errors import ConfigError
from blixt.llm.weights.counts import check_layers
from blixt.llm.weights.gguf.archs import Arch, arch_named
from blixt.llm.weights.gguf.rope import rope_scaling
from blixt.llm.weights.source import Source

_REQUIRED = (
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "attention.head_count",
)
# Kept in llama.cpp's code rather than in the file: the layers whose scores are scaled by d / heads.
_SCALED_BY_WIDTH = {("gemma2", 46), ("gemma3", 62)}


def arch_of(metadata: Mapping[str, Any]) -> tuple[str, Arch]:
    """The architecture that a file's metadata names.

    Raises:
        ConfigError: It names none, or one that is not read.
    """
    name = str(metadata.get("general.architecture", ""))
    return name, arch_named(name, int(metadata.get(f"{name}.expert_count", 0)))


def to_config(metadata: Mapping[str, Any], source: Source) -> ModelConfig:
    """The configuration of a GGUF file.

    Raises:
        ConfigError: The file's architecture is not read, or a key is missing.
    """
    return ModelConfig.from_hf(to_hf_config(metadata, source))


def to_hf_config(metadata: Mapping[str, Any], source: Source) -> dict[str, Any]:
    """What the model's `config.json` would say.

    Args:
        metadata: Of the file.
        source: Its tensors: their shapes say the vocabulary, whether the embedding is tied, and biases.

    Raises:
        ConfigError: The file's architecture is not read, or a key is missing.
    """
    name, arch = arch_of(metadata)
    values = {
        key.removeprefix(f"{name}."): value for key, value in metadata.items() if key.startswith(f"{name}.")
    }
    for key in _REQUIRED:
        if key not in values:
            raise ConfigError(f"{source.where}: the metadata lack {name}.{key}")
    check_layers(values["block_count"], source)
    hf: dict[str, Any] = {"model_type": arch.model_type, "architectures": [arch.architectures]}
    hf |= {theirs: values[key] for key, theirs in arch.keys.items() if key in values}
    hf |= _shapes(source) | _token_ids(metadata) | arch.fixed
    if scaling := rope_scaling(values, source):
        hf["rope_scaling"] = scaling
    hf |= _SPECIAL.get(name, _nothing)(values, source)
    return hf


def _shapes(source: Source) -> dict[str, Any]:
    if "token_embd.weight" not in source.infos:
        raise ConfigError(f"{source.where} holds no token_embd.weight: it is no language model")
    vocab = source.infos["token_embd.weight"].shape[0]
    return {"vocab_size": vocab, "tie_word_embeddings": "output.weight" not in source.infos}


def _token_ids(metadata: Mapping[str, Any]) -> dict[str, Any]:
    ends = [
        metadata[f"tokenizer.ggml.{kind}_token_id"]
        for kind in ("eos", "eot", "eom")
        if f"tokenizer.ggml.{kind}_token_id" in metadata
    ]
    distinct = list(dict.fromkeys(ends))
    eos = distinct[0] if len(distinct) == 1 else distinct or None
    return {"bos_token_id": metadata.get("tokenizer.ggml.bos_token_id"), "eos_token_id": eos}


def _nothing(values: Mapping[str, Any], source: Source) -> dict[str, Any]:
    return {}


def _alternating(layers: int, every: int) -> list[str]:
    """Every so many layers one sees everything, the others a window."""
    return ["sliding_attention" if (i + 1) % every else "full_attention" for i in range(layers)]


def _query_scalar(name: str, values: Mapping[str, Any]) -> int:
    if (name, values["block_count"]) in _SCALED_BY_WIDTH:
        return int(values["embedding_length"]) // int(values["attention.head_count"])
    return int(values["attention.key_length"])


def _gemma2(values: Mapping[str, Any], source: Source) -> dict[str, Any]:
    return {
        "layer_types": _alternating(values["block_count"], 2),
        "query_pre_attn_scalar": _query_scalar("gemma2", values),
    }


def _gemma3(values: Mapping[str, Any], source: Source) -> dict[str, Any]:
    return {
        "layer_types": _alternating(
            values["block_count"], int(values.get("attention.sliding_window_pattern", 6))
        ),
        "query_pre_attn_scalar": _query_scalar("gemma3", values),
        "rope_local_base_freq": float(values.get("rope.freq_base_swa", 10_000.0)),
    }


def _cohere2(values: Mapping[str, Any], source: Source) -> dict[str, Any]:
    return {"layer_types": _alternating(values["block_count"], 4)}


def _partial(values: Mapping[str, Any]) -> dict[str, Any]:
    width = values.get("attention.key_length") or values["embedding_length"] // values["attention.head_count"]
    turned = values.get("rope.dimension_count", width)
    return {"partial_rotary_factor": turned / width}


def _phi3(values: Mapping[str, Any], source: Source) -> dict[str, Any]:
    original = values.get("rope.scaling.original_context_length", values["context_length"])
    return {**_partial(values), "original_max_position_embeddings": original}


def _stablelm(values: Mapping[str, Any], source: Source) -> dict[str, Any]:
    return {
        **_partial(values),
        "use_qkv_bias": "blk.0.attn_q.bias" in source.infos,
        "use_parallel_residual": "blk.0.ffn_norm.weight" not in source.infos,
        "qk_layernorm": "blk.0.attn_q_norm.weight" in source.infos,
    }


_SPECIAL = {
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "cohere2": _cohere2,
    "phi3": _phi3,
    "stablelm": _stablelm,
}
