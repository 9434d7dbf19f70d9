"""The model families: how each one's `config.json` and tensors read and are written, and nothing else.

A family is one short entry: keys that map one to one, parts for what does not (rope, windows, experts), and
weight rules. `read_config` and `write_config` go between a parsed `config.json` and a `ModelConfig`;
`family_of` gives the entry with its rules. The model itself knows no family.
"""

from blixt.llm.config import ModelConfig
from blixt.llm.errors import ConfigError
from blixt.llm.families import (
    classic,
    cohere,
    deepseek,
    falcon,
    gemma,
    glm,
    gpt,
    gpt_oss,
    llama,
    llama4,
    nanochat,
    olmo,
    phi,
    qwen,
    relatives,
)
from blixt.llm.families.base import Family
from blixt.llm.families.keys import Json

__all__ = ["WRAPPERS", "Family", "families", "family_of", "read_config", "write_config"]

_MODULES = (
    llama,
    llama4,
    gemma,
    phi,
    qwen,
    olmo,
    gpt,
    falcon,
    classic,
    cohere,
    glm,
    deepseek,
    gpt_oss,
    nanochat,
    relatives,
)
_FAMILIES = {family.model_type: family for module in _MODULES for family in module.FAMILIES}

WRAPPERS = {"gemma3": "gemma3_text", "llama4": "llama4_text", "mistral3": "mistral"}
"""Multi-modal model types whose text part is read, and what that is when `text_config` does not say."""


def families() -> tuple[str, ...]:
    """All model types that are read and written, sorted."""
    return tuple(sorted(_FAMILIES))


def family_of(model_type: str) -> Family:
    """One family's entry.

    Raises:
        ConfigError: No family has that model type.
    """
    if model_type not in _FAMILIES:
        known = ", ".join(sorted([*_FAMILIES, *WRAPPERS]))
        raise ConfigError(
            f"config.json says model_type={model_type!r}, which is not known; known are {known}"
        )
    return _FAMILIES[model_type]


def read_config(data: Json) -> ModelConfig:
    """The configuration that a parsed `config.json` describes; of a multi-modal one, its text part.

    Args:
        data: The file, in the form of transformers 4 or 5.

    Raises:
        ConfigError: Names the key that is missing, unknown, or says what the decoder does not have.
    """
    model_type = data.get("model_type")
    if not isinstance(model_type, str):
        raise ConfigError("config.json lacks the key 'model_type'")
    if model_type in WRAPPERS:
        return read_config(_text_part(data, WRAPPERS[model_type]))
    try:
        return family_of(model_type).read(data)
    except (TypeError, ValueError, ArithmeticError, AttributeError, LookupError) as error:
        raise ConfigError(
            f"config.json of model type {model_type!r} holds a value that no such model has: {error}"
        ) from None


def _text_part(data: Json, default: str) -> Json:
    text: Json = dict(data.get("text_config") or {})
    text.setdefault("model_type", default)
    for name in ("tie_word_embeddings", "eos_token_id", "bos_token_id", "quantization_config"):
        if text.get(name) is None and data.get(name) is not None:
            text[name] = data[name]
    return text


def write_config(config: ModelConfig) -> Json:
    """The `config.json` of a configuration, in a form that transformers 4 and 5 both read.

    Raises:
        ConfigError: Its `model_type` is not known, or cannot say what the configuration says.
    """
    return family_of(config.model_type).write(config)
