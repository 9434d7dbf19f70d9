"""What a decoder looks like, as plain data: the model reads it, nothing decides by a model's name."""

import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

from blixt.llm.errors import ConfigError
from blixt.llm.specs import Act, LayerSpec, MLASpec, MoESpec, NormKind, RopeSpec, Temperature, check_fields

__all__ = [
    "PRESETS",
    "LayerSpec",
    "MLASpec",
    "MoESpec",
    "ModelConfig",
    "RopeSpec",
    "Temperature",
    "preset",
]


MOST_LAYERS = 10_000
_MOST_NUMBERS = 1 << 50  # in one matrix: a petabyte and more


def check_layers(count: Any) -> None:
    """Refuse a number of layers that no model has, before a list of so many is made.

    Raises:
        ConfigError: It is not a whole number from 1 to `MOST_LAYERS`.
    """
    if not isinstance(count, int) or not 1 <= count <= MOST_LAYERS:
        raise ConfigError(f"ModelConfig(layers={count!r}): must be a whole number from 1 to {MOST_LAYERS}")


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and constants of a decoder. The defaults are a Llama; `layer_specs` says where layers differ.

    Attributes:
        vocab: Number of tokens.
        d: Width of the residual stream.
        layers: Number of blocks.
        heads: Query heads.
        kv_heads: Key and value heads; `heads` must be a multiple of it (grouped-query attention).
        head_dim: Width of one head's query and key; 0 means `d // heads`, or with `mla` what it says.
        d_ff: Inner width of the MLP; 0 means 8/3 of `d`, rounded up to a multiple of 32.
        context: Longest sequence, in tokens.
        rope_base: Base of the rotary position embedding, where neither `rope` nor `layer_specs` is given.
        norm_eps: Added to the mean square (or variance) in norms.
        tie: Whether the output layer shares the embedding's weights.
        eos: Ids of the tokens that end a document or turn; an int or None is taken, too.
        bos: Id of the token that begins a document, or None.
        model_type: Which entry of `blixt.llm.families` reads and writes checkpoints.
        rope: How all layers turn queries and keys, where `layer_specs` is not given.
        position: "rope" (as the layers say), or "learned": a table of `context` vectors is added (GPT-2).
        norm: Kind of the norms of the residual stream.
        norm_offset: Added to the norms' weights (1 for Gemma, whose weights are stored minus one).
        norm_place: "pre": x + f(norm(x)); "post": x + norm(f(x)); "sandwich": x + norm(f(norm(x)));
            "parallel": x + attn(norm1(x)) + mlp(norm2(x)); "parallel_shared": the same with one norm.
        embed_norm: A norm without parameters follows the embedding (nanochat).
        qk_norm: Norm of queries and keys: of each head with one weight for all ("head"), of each head with
            its own ("per_head"), of the whole projection ("full"), or "none".
        qk_norm_kind: Kind of it; "" means `norm`.
        qk_norm_late: It comes after the rotation, not before.
        qkv_bias: Biases in the query, key and value layers (with `mla`: in those down to the latents).
        out_bias: In attention's output layer.
        mlp_bias: In the MLPs.
        head_bias: In the output layer.
        qkv_clip: Queries, keys and values are clamped to this magnitude; 0 means not (OLMo).
        act: Activation of the MLPs.
        mlp: Kind of all MLPs, where `layer_specs` is not given; "moe" when `moe` is.
        query_scale: Multiplies attention's scores; 0 means `head_dim ** -0.5`.
        softcap_attn: Scores become `cap * tanh(scores / cap)`; 0 means not.
        softcap_logits: The same for the logits.
        sinks: Each head has a learned logit that takes part in the softmax and carries no value (gpt-oss).
        embed_scale: Multiplies the embeddings.
        resid_scale: Multiplies what a layer adds to the residual stream.
        logits_scale: Multiplies the logits, before their softcap.
        moe: Mixture of experts of the layers whose `mlp` is "moe".
        mla: Latent attention of the layers whose `attn` is "mla".
        layer_specs: One `LayerSpec` a layer; empty means that all are alike, from the fields above.
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
    eos: tuple[int, ...] = ()
    bos: int | None = None
    model_type: str = "llama"
    rope: RopeSpec | None = None
    position: Literal["rope", "learned"] = "rope"
    norm: NormKind = "rms"
    norm_offset: float = 0.0
    norm_place: Literal["pre", "post", "sandwich", "parallel", "parallel_shared"] = "pre"
    embed_norm: bool = False
    qk_norm: Literal["none", "head", "per_head", "full"] = "none"
    qk_norm_kind: NormKind | Literal[""] = ""
    qk_norm_late: bool = False
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    qkv_clip: float = 0.0
    act: Act = "silu"
    mlp: Literal["gated", "plain"] = "gated"
    query_scale: float = 0.0
    softcap_attn: float = 0.0
    softcap_logits: float = 0.0
    sinks: bool = False
    embed_scale: float = 1.0
    resid_scale: float = 1.0
    logits_scale: float = 1.0
    moe: MoESpec | None = None
    mla: MLASpec | None = None
    layer_specs: tuple[LayerSpec, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        self._check_sizes()
        self._fill_defaults()
        self._check_layers()
        self._check_matrices()

    def _fill_defaults(self) -> None:
        given = cast("Any", self.eos)
        eos = () if given is None else (given,) if isinstance(given, int) else tuple(given)
        object.__setattr__(self, "eos", eos)
        if not self.head_dim and self.mla:
            object.__setattr__(self, "head_dim", self.mla.nope_dim + self.mla.rope_dim)
        if not self.head_dim:
            if self.d % self.heads:
                raise ConfigError(
                    f"ModelConfig(d={self.d}, heads={self.heads}): give head_dim, or a d that heads divides"
                )
            object.__setattr__(self, "head_dim", self.d // self.heads)
        if not self.d_ff:
            object.__setattr__(self, "d_ff", -(-self.d * 8 // 3 // 32) * 32)

    def _check_sizes(self) -> None:
        check_layers(self.layers)
        for name in ("vocab", "d", "heads", "kv_heads", "context"):
            if getattr(self, name) < 1:
                raise ConfigError(f"ModelConfig({name}={getattr(self, name)}): must be at least 1")
        if self.heads % self.kv_heads:
            raise ConfigError(
                f"ModelConfig(heads={self.heads}, kv_heads={self.kv_heads}): "
                "heads must be a multiple of kv_heads"
            )
        for name in ("rope_base", "norm_eps", "embed_scale", "resid_scale", "logits_scale"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"ModelConfig({name}={getattr(self, name)}): must be above 0")
        for name in ("head_dim", "d_ff", "query_scale", "softcap_attn", "softcap_logits", "qkv_clip"):
            if getattr(self, name) < 0:
                raise ConfigError(f"ModelConfig({name}={getattr(self, name)}): must not be negative")

    def _check_matrices(self) -> None:
        sizes = {"vocab": self.vocab, "heads * head_dim": self.heads * self.head_dim, "d_ff": self.d_ff}
        if self.moe is not None:
            sizes["moe.experts * moe.d_ff"] = self.moe.experts * self.moe.d_ff
            sizes["moe.shared_d_ff"] = self.moe.shared_d_ff
        if self.mla is not None:
            ranks = self.mla.q_rank + self.mla.kv_rank
            sizes["mla's ranks * heads * v_dim"] = ranks * self.heads * (self.head_dim + self.mla.v_dim)
        if self.position == "learned":
            sizes["context"] = self.context
        for name, rows in sizes.items():
            if rows * self.d > _MOST_NUMBERS:
                raise ConfigError(
                    f"ModelConfig({name}={rows}, d={self.d}): a matrix of so many numbers fits no memory"
                )

    def _check_layers(self) -> None:
        if self.layer_specs and len(self.layer_specs) != self.layers:
            raise ConfigError(
                f"ModelConfig(layers={self.layers}, layer_specs): has {len(self.layer_specs)} specs, "
                "one a layer is needed"
            )
        for index, spec in enumerate(self.specs):
            if spec.attn == "mla" and (self.mla is None or self.kv_heads != self.heads):
                raise ConfigError(
                    f"ModelConfig(layer_specs[{index}].attn='mla'): needs mla and kv_heads equal to heads"
                )
            if spec.mlp == "moe" and self.moe is None:
                raise ConfigError(f"ModelConfig(layer_specs[{index}].mlp='moe'): needs moe")
            self._check_rope(index, spec)

    def _check_rope(self, index: int, spec: LayerSpec) -> None:
        if spec.rope is None:
            return
        width = self.rope_width(spec)
        if spec.rope.dim > width:
            raise ConfigError(f"RopeSpec(dim={spec.rope.dim}): a head of layer {index} has only {width}")
        for name in ("short_factors", "long_factors"):
            count = len(getattr(spec.rope, name))
            if spec.rope.kind == "longrope" and count != spec.rope.dim // 2:
                raise ConfigError(
                    f"RopeSpec({name}): has {count} numbers, {spec.rope.dim // 2} are needed, one a pair"
                )

    def rope_width(self, spec: LayerSpec) -> int:
        """Width of the part of a head that can be turned in a layer."""
        return self.mla.rope_dim if self.mla and spec.attn == "mla" else self.head_dim

    @cached_property
    def specs(self) -> tuple[LayerSpec, ...]:
        """One `LayerSpec` a layer with no default left open: `d_ff`, `query_scale` and `rope.dim` are set."""
        given = self.layer_specs
        if not given:
            rope = self.rope or RopeSpec(base=self.rope_base)
            given = (
                LayerSpec(
                    attn="mla" if self.mla else "full",
                    rope=rope if self.position == "rope" else None,
                    mlp="moe" if self.moe else self.mlp,
                ),
            ) * self.layers
        return tuple(self._resolve(spec) for spec in given)

    def _resolve(self, spec: LayerSpec) -> LayerSpec:
        rope = spec.rope
        if rope is not None and not rope.dim:
            width = self.rope_width(spec)
            if width % 2:
                raise ConfigError(
                    f"ModelConfig(head_dim={width}): rotary embeddings need an even head_dim, or rope.dim"
                )
            rope = replace(rope, dim=width)
        scale = spec.query_scale or self.query_scale or self.head_dim**-0.5
        return replace(spec, rope=rope, d_ff=spec.d_ff or self.d_ff, query_scale=scale)

    def parameters(self) -> int:
        """Number of trainable parameters (shared ones once), counted on a model without memory."""
        from blixt.llm.model import GPT  # the model reads this file

        return sum(parameter.numel() for parameter in GPT.empty(self).parameters())

    @classmethod
    def from_hf(cls, data: dict[str, Any]) -> "ModelConfig":
        """Read a parsed Hugging Face `config.json` of any family in `blixt.llm.families` (v4 or v5 keys).

        Raises:
            ConfigError: A key is missing, unknown, or says what this decoder does not have.
        """
        from blixt.llm.families import read_config  # the families read this file

        return read_config(data)

    def to_hf(self) -> dict[str, Any]:
        """The `config.json` of this configuration's family, which transformers 4 and 5 both read.

        Raises:
            ConfigError: The family (`model_type`) cannot say what the configuration says.
        """
        from blixt.llm.families import write_config

        return write_config(self)

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
