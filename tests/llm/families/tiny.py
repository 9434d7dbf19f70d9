"""What the tiny models of the parity tests are made of: sizes, ropes, a case's description."""

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

SIZES: Json = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "attn_implementation": "eager",
}
WINDOW = 8
FULL, SLIDING = "full_attention", "sliding_attention"


def rope(theta: float = 10_000.0, kind: str = "default", **extra: Any) -> Json:
    """A `rope_parameters` as transformers 5 has it."""
    return {"rope_parameters": {"rope_type": kind, "rope_theta": theta, **extra}}


def yarn(factor: float = 4.0, original: int = 16, **extra: Any) -> Json:
    """YaRN over an original context that the prompts of the tests outgrow."""
    return rope(10_000.0, "yarn", factor=factor, original_max_position_embeddings=original, **extra)


LLAMA3 = rope(
    500_000.0,
    "llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=16,
)
EXPERTS: Json = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}
DEEPSEEK: Json = {
    "num_key_value_heads": 4,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "n_routed_experts": 8,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
    "routed_scaling_factor": 1.7,
    **EXPERTS,
}


def factors(count: int, start: float, step: float) -> list[float]:
    """Per-frequency factors of longrope, rising like the published ones."""
    return [round(start + step * index, 3) for index in range(count)]


def longrope(count: int, **extra: Any) -> Json:
    """LongRoPE with factors for short and long sequences; 16 tokens are where they change."""
    scaled = rope(
        10_000.0,
        "longrope",
        short_factor=factors(count, 1.0, 0.05),
        long_factor=factors(count, 1.2, 0.9),
        original_max_position_embeddings=16,
        **extra,
    )
    return {**scaled, "original_max_position_embeddings": 16}


@dataclass(frozen=True)
class Case:
    """One tiny model.

    Attributes:
        kind: transformers' model type.
        changes: Keys that differ from `SIZES`, in the form of transformers 5; None drops a key.
        versions: Major versions of transformers that know the family, or compute it right.
        wrapped: Keys of a multi-modal wrapper around the text model: its model type and vision part.
    """

    kind: str
    changes: Json = field(default_factory=dict[str, Any])
    versions: tuple[int, ...] = (4, 5)
    wrapped: Json | None = None

    def config(self) -> Json:
        """The whole configuration, in the form of transformers 5."""
        merged = {**SIZES, **self.changes}
        return {
            name: value for name, value in merged.items() if value is not None or name == "sliding_window"
        }


GPT2: Json = {
    "n_embd": 64,
    "n_head": 4,
    "n_layer": 3,
    "n_positions": 64,
    "n_inner": 80,
    **dict.fromkeys(
        [
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "max_position_embeddings",
        ]
    ),
}
FALCON: Json = {"intermediate_size": None, "num_key_value_heads": None, "ffn_hidden_size": 80, "alibi": False}
VISION: Json = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}
