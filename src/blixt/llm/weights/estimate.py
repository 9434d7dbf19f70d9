"""What a model needs in memory, worked out from its configuration, before anything is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from blixt.llm.config import ModelConfig
from blixt.llm.errors import TooLittleMemoryError, WeightsError
from blixt.llm.model import GPT
from blixt.llm.weights.free import free_bytes

BITS = {
    "float64": 64.0,
    "float32": 32.0,
    "bfloat16": 16.0,
    "float16": 16.0,
    "fp8": 8.03,
    "int8": 8.03,
    "int8-dynamic": 8.03,
    "int4": 5.0,
    "nf4": 4.5,
}
"""Bits of one number of a matrix in each precision, the scales of quantised ones counted in."""

_UNQUANTISED = ("embed.", "pos_embed.", "head.")


@dataclass(frozen=True)
class Memory:
    """Bytes a model needs to generate.

    Attributes:
        weights: Its parameters.
        kv: The cache of keys and values, full.
        activations: The largest of what a step makes and drops.
    """

    weights: int
    kv: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.kv + self.activations


@dataclass(frozen=True)
class Use:
    """What a model shall be used for.

    Attributes:
        precision: A key of `BITS`: a dtype, or a kind of quantisation.
        context: Tokens in each sequence.
        batch: Sequences at once.
        cache_dtype: Of keys and values; "" means the dtype, or bfloat16 where matrices are quantised.
        kv_bytes: Memory set apart for keys and values; 0 follows from context and batch.
        step: Tokens computed at once.
    """

    precision: str = "bfloat16"
    context: int = 0
    batch: int = 1
    cache_dtype: str = ""
    kv_bytes: int = 0
    step: int = 512


def estimate(config: ModelConfig, use: Use) -> Memory:
    """The memory that generating takes.

    Args:
        config: The model's.
        use: Precision, context (0 means the model's) and batch.

    Raises:
        WeightsError: There is no such precision.
    """
    if use.precision not in BITS:
        raise WeightsError(f"there is no precision {use.precision!r}; take one of {', '.join(BITS)}")
    context = use.context or config.context
    cache = use.cache_dtype or (use.precision if BITS[use.precision] >= 16 else "bfloat16")
    number_bytes = BITS[cache] / 8
    return Memory(
        weights=weight_bytes(config, use.precision),
        kv=max(use.kv_bytes, int(use.batch * cache_numbers(config, context) * number_bytes)),
        activations=_activations(config, context, use, number_bytes),
    )


@lru_cache(maxsize=16)
def weight_bytes(config: ModelConfig, precision: str) -> int:
    """Size of the parameters; quantised precisions leave embeddings, output layer and norms in 16 bits."""
    bits, plain = BITS[precision], max(16.0, BITS[precision])
    total = 0.0
    for name, parameter in GPT.empty(config).named_parameters():
        whole = name.startswith(_UNQUANTISED) or parameter.dim() < 2
        total += parameter.numel() * (plain if whole else bits) / 8
    return int(total)


def cache_numbers(config: ModelConfig, context: int) -> int:
    """How many numbers the keys and values of one sequence are, once it is `context` tokens long."""
    total = 0
    for spec in config.specs:
        tokens = min(spec.window, context) if spec.window else context
        if spec.attn == "mla" and config.mla is not None:
            total += tokens * (config.mla.kv_rank + config.mla.rope_dim)
        else:
            total += tokens * 2 * config.kv_heads * config.head_dim
    return total


def largest_context(config: ModelConfig, use: Use, free: int) -> int:
    """The longest context that fits, in tokens; 0 when the weights alone do not."""
    low, high = 0, use.context or config.context
    while low < high:
        middle = (low + high + 1) // 2
        tried = replace(use, context=middle)
        low, high = (middle, high) if estimate(config, tried).total <= free else (low, middle - 1)
    return low


def check_memory(config: ModelConfig, use: Use, device: torch.device, *, quantisable: bool = True) -> Memory:
    """Refuse a use that cannot fit, with what would.

    Args:
        config: The model's.
        use: What is meant to be done.
        device: Where.
        quantisable: Whether to suggest quantised precisions.

    Returns:
        What it needs.

    Raises:
        TooLittleMemoryError: It does not fit what is free on the device.
    """
    needed, free = estimate(config, use), free_bytes(device)
    if needed.total <= free:
        return needed
    remedies = list(_remedies(config, use, free, quantisable))
    would = f"; what would: {' or '.join(remedies)}" if remedies else "; no smaller precision would either"
    raise TooLittleMemoryError(
        f"this model needs {_gb(needed.total)} ({_gb(needed.weights)} of {use.precision} weights, "
        f"{_gb(needed.kv)} of keys and values for {use.batch} x {use.context or config.context} tokens, "
        f"{_gb(needed.activations)} to compute) and {device} has {_gb(free)} free{would}"
    )


def _remedies(config: ModelConfig, use: Use, free: int, quantisable: bool) -> Sequence[str]:
    found: list[str] = []
    if (shorter := largest_context(config, use, free)) >= 64:
        found.append(f"a context of {shorter} tokens")
    elif use.kv_bytes and (left := free - estimate(config, replace(use, kv_bytes=0)).total) > 0:
        found.append(f"kv_bytes of {_gb(left)} at most")
    for precision, bits in sorted(BITS.items(), key=lambda item: -item[1]):
        smaller = bits < BITS[use.precision] and (quantisable or bits >= 16)
        tried = replace(use, precision=precision)
        if smaller and precision != "float16" and estimate(config, tried).total <= free:
            found.append(f"{precision} ({_gb(estimate(config, tried).total)})")
            break
    return found


def _activations(config: ModelConfig, context: int, use: Use, number_bytes: float) -> int:
    """Of one step: a chunk of prompt through the widest layer, and the logits of every sequence."""
    tokens = max(use.batch, min(use.step, context))
    heads = (config.heads + 2 * config.kv_heads) * config.head_dim
    mlp = max(_mlp_width(config, index) for index in range(config.layers))
    return int(tokens * (4 * config.d + 2 * heads + 3 * mlp) * number_bytes + use.batch * config.vocab * 4)


def _mlp_width(config: ModelConfig, layer: int) -> int:
    spec = config.specs[layer]
    if spec.mlp != "moe" or config.moe is None:
        return spec.d_ff
    return config.moe.d_ff * config.moe.top_k + config.moe.shared_d_ff


def _gb(size_bytes: float) -> str:
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 1e8 else f"{size_bytes / 1e6:.2f} MB"
