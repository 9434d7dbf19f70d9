"""How GGUF says that rotary embeddings are stretched: by keys, or by a tensor of divisors."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from blixt.llm.weights.source import Source

FREQS, SHORT, LONG = "rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
_LLAMA4 = _LLAMA3 | {"high_freq_factor": 1.0}


def rope_scaling(values: Mapping[str, Any], source: Source) -> dict[str, Any]:
    """What `config.json` calls `rope_scaling`; empty when nothing is stretched.

    Args:
        values: The architecture's metadata, without its name in front.
        source: The file, for divisors kept as tensors.
    """
    if SHORT in source.infos and LONG in source.infos:
        return _longrope(source.get(SHORT), source.get(LONG))
    if FREQS in source.infos:
        return _by_divisors(source.get(FREQS), values)
    kind = values.get("rope.scaling.type", "none")
    factor = float(values.get("rope.scaling.factor", 0.0))
    if kind in ("none", "longrope") or not factor:
        return {}
    scaling: dict[str, Any] = {"rope_type": kind, "factor": factor}
    if kind == "yarn":
        original = values.get("rope.scaling.original_context_length", values["context_length"])
        scaling["original_max_position_embeddings"] = int(original)
    return scaling


def llama3_divisors(base: float, dim: int, scaling: Mapping[str, Any]) -> Tensor:
    """What llama.cpp divides each frequency by, for Llama 3.1's stretching by bands; (dim / 2,) float32.

    Args:
        base: Of the frequencies.
        dim: Width that is turned.
        scaling: `factor`, `low_freq_factor`, `high_freq_factor`, `original_max_position_embeddings`.
    """
    frequencies = base ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    turns = scaling["original_max_position_embeddings"] * frequencies / (2 * math.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    smooth = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 / ((1 - smooth) / scaling["factor"] + smooth)).float()


def _by_divisors(divisors: Tensor, values: Mapping[str, Any]) -> dict[str, Any]:
    """Llama 3's parameters where they explain the divisors, else the divisors themselves."""
    base = float(values.get("rope.freq_base", 10_000.0))
    for bands in (_LLAMA3, _LLAMA4):
        scaling: dict[str, Any] = {"rope_type": "llama3", "factor": float(divisors.max()), **bands}
        if torch.allclose(llama3_divisors(base, 2 * len(divisors), scaling), divisors.float(), rtol=1e-3):
            return scaling
    return {**_longrope(divisors, divisors), "attention_factor": 1.0}


def _longrope(short: Tensor, long: Tensor) -> dict[str, Any]:
    return {"rope_type": "longrope", "short_factor": _floats(short), "long_factor": _floats(long)}


def _floats(numbers: Tensor) -> list[float]:
    return [float(number) for number in numbers]
