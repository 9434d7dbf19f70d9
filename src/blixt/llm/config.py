"""What a decoder looks like, as plain data: the model reads it, nothing decides by a model's name."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from blixt.llm.errors import ConfigError


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and constants of a Llama-style decoder.

    Attributes:
        vocab: Number of tokens.
        d: Width of the residual stream.
        layers: Number of blocks.
        heads: Query heads.
        kv_heads: Key and value heads; `heads` must be a multiple of it (grouped-query attention).
        head_dim: Width of one head; 0 means `d // heads`.
        d_ff: Inner width of the gated MLP; 0 means 8/3 of `d`, rounded up to a multiple of 32.
        context: Longest sequence, in tokens.
        rope_base: Base of the rotary position embedding.
        norm_eps: Added to the mean square in RMSNorm.
        tie: Whether the output layer shares the embedding's weights.
        eos: Id of the token that ends a document, or None.
    """

    vocab: int
    d: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 4
    head_dim: int = 0
    d_ff: int = 0
    context: int = 256
    rope_base: float = 10_000.0
    norm_eps: float = 1e-5
    tie: bool = True
    eos: int | None = None

    def __post_init__(self) -> None:
        for name in ("vocab", "d", "layers", "heads", "kv_heads", "context"):
            if getattr(self, name) < 1:
                raise ConfigError(f"ModelConfig({name}={getattr(self, name)}): must be at least 1")
        if self.heads % self.kv_heads:
            raise ConfigError(
                f"ModelConfig(heads={self.heads}, kv_heads={self.kv_heads}): "
                "heads must be a multiple of kv_heads"
            )
        if not self.head_dim:
            if self.d % self.heads:
                raise ConfigError(
                    f"ModelConfig(d={self.d}, heads={self.heads}): give head_dim, or a d that heads divides"
                )
            object.__setattr__(self, "head_dim", self.d // self.heads)
        if self.head_dim % 2:
            raise ConfigError(
                f"ModelConfig(head_dim={self.head_dim}): rotary embeddings need an even head_dim"
            )
        if not self.d_ff:
            object.__setattr__(self, "d_ff", -(-self.d * 8 // 3 // 32) * 32)

    def parameters(self) -> int:
        """Number of trainable parameters (shared ones once)."""
        attention = self.d * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        block = attention + 3 * self.d * self.d_ff + 2 * self.d
        embeddings = self.vocab * self.d * (1 if self.tie else 2)
        return self.layers * block + embeddings + self.d

    @classmethod
    def from_hf(cls, data: dict[str, Any]) -> "ModelConfig":
        """Read a Hugging Face `config.json` of a Llama-style model (v4 or v5 keys).

        Raises:
            ConfigError: A key is missing, or the file describes something this decoder does not have.
        """
        kind = data.get("model_type", "llama")
        scaling: dict[str, Any] = data.get("rope_scaling") or {}
        rope: dict[str, Any] = data.get("rope_parameters") or {}
        rope_type = scaling.get("rope_type", scaling.get("type", rope.get("rope_type", "default")))
        if kind != "llama" or rope_type != "default" or data.get("hidden_act", "silu") != "silu":
            raise ConfigError(
                f"config.json describes model_type={kind!r}, rope={rope_type!r}, "
                f"hidden_act={data.get('hidden_act', 'silu')!r}: only Llama with plain rope and silu is read"
            )
        if data.get("attention_bias") or data.get("mlp_bias"):
            raise ConfigError(
                "config.json asks for biases in attention or MLP, which this decoder does not have"
            )
        try:
            heads = data["num_attention_heads"]
            eos: int | list[int] | None = data.get("eos_token_id")
            return cls(
                vocab=data["vocab_size"],
                d=data["hidden_size"],
                layers=data["num_hidden_layers"],
                heads=heads,
                kv_heads=data.get("num_key_value_heads") or heads,
                head_dim=data.get("head_dim") or 0,
                d_ff=data["intermediate_size"],
                context=data["max_position_embeddings"],
                rope_base=float(rope.get("rope_theta", data.get("rope_theta", 10_000.0))),
                norm_eps=data.get("rms_norm_eps", 1e-6),
                tie=data.get("tie_word_embeddings", False),
                eos=eos[0] if isinstance(eos, list) else eos,
            )
        except KeyError as missing:
            raise ConfigError(f"config.json lacks the key {missing}") from None

    def to_hf(self) -> dict[str, Any]:
        """The `config.json` that transformers reads as `LlamaForCausalLM`."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocab,
            "hidden_size": self.d,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.d_ff,
            "max_position_embeddings": self.context,
            "rope_theta": self.rope_base,
            "rms_norm_eps": self.norm_eps,
            "tie_word_embeddings": self.tie,
            "eos_token_id": self.eos,
            "bos_token_id": self.eos,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "torch_dtype": "float32",
        }

    @classmethod
    def load(cls, directory: str | Path) -> "ModelConfig":
        """Read `config.json` in a checkpoint directory.

        Raises:
            ConfigError: The file is missing or not JSON.
        """
        path = Path(directory) / "config.json"
        try:
            return cls.from_hf(json.loads(path.read_text("utf-8")))
        except FileNotFoundError:
            raise ConfigError(f"{path} does not exist: is {directory} a checkpoint directory?") from None
        except json.JSONDecodeError as error:
            raise ConfigError(f"{path} is not JSON: {error}") from None

    def save(self, directory: str | Path) -> None:
        """Write `config.json` into a checkpoint directory."""
        path = Path(directory) / "config.json"
        path.write_text(json.dumps(self.to_hf(), indent=2) + "\n", "utf-8")


PRESETS: dict[str, ModelConfig] = {
    "demo": ModelConfig(vocab=2048, d=160, layers=4, heads=5, kv_heads=5, context=256),
    "tiny": ModelConfig(vocab=512, d=64, layers=2, heads=4, kv_heads=2, context=128),
    "small": ModelConfig(vocab=16384, d=768, layers=12, heads=12, kv_heads=12, context=1024),
}
"""Sizes for pretraining from scratch; `vocab` is replaced by the tokenizer's."""


def preset(name: str, **changes: Any) -> ModelConfig:
    """A named size with some fields changed.

    Raises:
        ConfigError: No preset has that name, or no field one of those names.
    """
    if name not in PRESETS:
        raise ConfigError(f"no preset is called {name!r}; there are {', '.join(PRESETS)}")
    unknown = set(changes) - set(asdict(PRESETS[name]))
    if unknown:
        raise ConfigError(f"ModelConfig has no field {sorted(unknown)[0]!r}")
    base = PRESETS[name]
    if {"d", "heads", "head_dim"} & set(changes):
        base = replace(base, head_dim=0 if "head_dim" not in changes else base.head_dim)
    return replace(base, **changes)
