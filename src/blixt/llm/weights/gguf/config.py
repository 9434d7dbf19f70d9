"""A GGUF file's metadata as a Hugging Face `config.json`, which the families then read."""

from collections.abc import Mapping
from typing import Any

from blixt.llm.config import ModelConfig
from blixt.llm.errors import ConfigError
from blixt.llm.weights.counts import check_layers
from blixt.llm.weights.gguf.archs import Arch, arch_named
from blixt.llm.weights.gguf.rope import rope_scaling
from blixt.llm.weights.gguf.special import special
from blixt.llm.weights.source import Source

_REQUIRED = (
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "attention.head_count",
)


def arch_of(metadata: Mapping[str, Any]) -> tuple[str, Arch]:
    """The architecture that a file's metadata names.

    Raises:
        ConfigError: It names none, or one that is not read.
    """
    name = str(metadata.get("general.architecture", ""))
    experts, gating = (
        int(metadata.get(f"{name}.{key}", 0)) for key in ("expert_count", "expert_gating_func")
    )
    return name, arch_named(name, experts, gating)


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
    return hf | special(name, values, source)


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
