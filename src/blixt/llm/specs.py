"""The parts of a decoder's configuration that may differ from layer to layer, as plain data."""

from dataclasses import dataclass, fields
from functools import cache
from math import isfinite
from typing import Any, Literal, get_args, get_origin, get_type_hints

from blixt.llm.errors import ConfigError

NormKind = Literal["rms", "rms_bare", "layer", "layer_no_bias", "layer_bare"]
"""RMSNorm or LayerNorm; "bare" has no parameters at all, "layer_no_bias" a weight only."""

Act = Literal["silu", "gelu", "gelu_tanh", "relu", "relu2"]
"""Activation of an MLP; "relu2" is the square of ReLU."""


_MOST = 1 << 50  # of anything counted: more fits no memory, and products of it no integer


@cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {f.name: hints[f.name] for f in fields(kind)}


def _literals(hint: Any) -> tuple[Any, ...]:
    if get_origin(hint) is Literal:
        return get_args(hint)
    return tuple(value for part in get_args(hint) for value in _literals(part))


def check_fields(spec: object) -> None:
    """Refuse a value that a dataclass's `Literal`, `int`, `float` or `bool` field cannot have.

    Raises:
        ConfigError: Names the field, the value and what is allowed.
    """
    for name, hint in _hints(type(spec)).items():
        value = getattr(spec, name)
        if allowed := _literals(hint):
            fits, what = value in allowed, f"one of {', '.join(map(repr, allowed))}"
        else:
            fits, what = number_fits(value, hint)
        if not fits:
            raise ConfigError(f"{type(spec).__name__}({name}={shortened(value)}): must be {what}")


def number_fits(value: Any, hint: Any) -> tuple[bool, str]:
    """Whether a value can stand in a field of type int, float or bool, and what that is; others always do."""
    if hint is int:
        return type(value) is int and abs(value) < _MOST, f"a whole number below {_MOST}"
    if hint is float:
        return isinstance(value, int | float) and isfinite(value), "a finite number"
    if hint is bool:
        return isinstance(value, bool), "true or false"
    return True, ""


def shortened(value: Any) -> str:
    """A value for a message, on one line of bearable length."""
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."


@dataclass(frozen=True)
class RopeSpec:
    """A rotary position embedding (Su et al. 2021, arXiv:2104.09864) and how it is stretched.

    Attributes:
        kind: "default"; "linear" divides positions by `factor`; "dynamic" raises the base with the sequence's
            length (NTK); "llama3" stretches by frequency band; "yarn" is arXiv:2309.00071; "longrope" is
            arXiv:2402.13753; "proportional" turns only the first `dim` of a head, with frequencies spread
            over the whole head.
        base: Base of the geometric series of frequencies (`rope_theta`).
        dim: Width of a head's first part that is turned; 0 means the whole head.
        interleaved: Pairs are neighbours (0, 1), (2, 3), ... instead of the two halves of the turned part.
        reverse: Turns the other way round (nanochat).
        factor: How much longer the context gets. Of "linear", "dynamic", "llama3", "yarn", "longrope".
        original_context: Context before stretching. Of "dynamic", "llama3", "yarn", "longrope".
        low_freq_factor: Of "llama3".
        high_freq_factor: Of "llama3".
        beta_fast: Turns over the original context above which "yarn" leaves a frequency alone.
        beta_slow: Turns below which "yarn" divides a frequency by `factor`.
        truncate: Whether "yarn" rounds the bounds of its ramp to whole pairs.
        attention_factor: Multiplies cosine and sine in "yarn" and "longrope"; None derives it from `factor`
            (and from both `mscale` for "yarn").
        mscale: Of "yarn", numerator of the attention factor; 0 when absent.
        mscale_all_dim: Of "yarn", its denominator; 0 when absent.
        short_factors: Of "longrope", one divisor a pair for sequences up to `original_context`.
        long_factors: Of "longrope", for longer ones.
    """

    kind: Literal["default", "linear", "dynamic", "llama3", "yarn", "longrope", "proportional"] = "default"
    base: float = 10_000.0
    dim: int = 0
    interleaved: bool = False
    reverse: bool = False
    factor: float = 1.0
    original_context: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    attention_factor: float | None = None
    mscale: float = 0.0
    mscale_all_dim: float = 0.0
    short_factors: tuple[float, ...] = ()
    long_factors: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        if self.base <= 0:
            raise ConfigError(f"RopeSpec(base={self.base}): must be above 0")
        if self.dim < 0 or self.dim % 2:
            raise ConfigError(f"RopeSpec(dim={self.dim}): rotary embeddings need an even dim, or 0 for all")
        if self.factor < 1:
            raise ConfigError(f"RopeSpec(factor={self.factor}): must be at least 1")
        if self.kind in ("dynamic", "llama3", "yarn", "longrope") and self.original_context < 1:
            raise ConfigError(
                f"RopeSpec(kind={self.kind!r}, original_context={self.original_context}): "
                "this kind needs the context before stretching"
            )
        if self.kind == "longrope" and not (self.short_factors and self.long_factors):
            raise ConfigError(
                "RopeSpec(kind='longrope'): needs short_factors and long_factors, one number a pair"
            )
        if self.kind == "llama3" and self.low_freq_factor > self.high_freq_factor:
            raise ConfigError(
                f"RopeSpec(low_freq_factor={self.low_freq_factor}, "
                f"high_freq_factor={self.high_freq_factor}): the low one is the higher"
            )


@dataclass(frozen=True)
class Temperature:
    """Sharper attention at far positions (arXiv:2501.19399): q is multiplied by
    `1 + scale * log(1 + floor((position + offset) / length))`.

    Llama 4 has offset 1, Ministral 3 offset 0.
    """

    scale: float
    length: float
    offset: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.length <= 0:
            raise ConfigError(f"Temperature(length={self.length}): must be above 0")


@dataclass(frozen=True)
class MoESpec:
    """A mixture of experts in place of an MLP; routing as a list of choices, each of some family.

    Attributes:
        experts: Number of experts.
        top_k: Experts a token visits.
        d_ff: Inner width of one expert.
        score: What a token's router logits become: "softmax" over all experts, "sigmoid" of each, or
            "softmax_topk", softmax over the chosen ones only (gpt-oss).
        normalise: Whether the chosen scores are divided by their sum.
        scale: Multiplies the chosen scores at last (`routed_scaling_factor`).
        groups: Experts stand in this many groups (1 means no grouping); only the best `top_groups` are open.
        top_groups: See `groups`.
        group_score: A group's rank is its best score ("max", DeepSeek V2) or the sum of its two best
            ("top2", DeepSeek V3).
        correction: A learned `router.correction` is added to the scores for choosing, not for weighing.
        weigh_input: The score multiplies an expert's input, not its output (Llama 4).
        router_bias: The router has a bias.
        expert_bias: Experts have biases (`experts.gate_bias`, ...).
        act: "" means the model's; "swiglu_clamped" is gpt-oss's, with `alpha` and `limit`.
        alpha: Of "swiglu_clamped".
        limit: Of "swiglu_clamped": gate and up are clamped to it.
        shared_d_ff: Inner width of the shared expert, which every token visits; 0 means none.
        shared_gate: The shared expert's output is multiplied by the sigmoid of a learned gate (Qwen 2 MoE).
    """

    experts: int
    top_k: int
    d_ff: int
    score: Literal["softmax", "sigmoid", "softmax_topk"] = "softmax"
    normalise: bool = True
    scale: float = 1.0
    groups: int = 1
    top_groups: int = 1
    group_score: Literal["max", "top2"] = "top2"
    correction: bool = False
    weigh_input: bool = False
    router_bias: bool = False
    expert_bias: bool = False
    act: Act | Literal["", "swiglu_clamped"] = ""
    alpha: float = 1.702
    limit: float = 7.0
    shared_d_ff: int = 0
    shared_gate: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("experts", "top_k", "d_ff", "groups", "top_groups"):
            if getattr(self, name) < 1:
                raise ConfigError(f"MoESpec({name}={getattr(self, name)}): must be at least 1")
        if self.top_k > self.experts:
            raise ConfigError(f"MoESpec(top_k={self.top_k}, experts={self.experts}): top_k is the larger")
        if self.experts % self.groups or self.top_groups > self.groups:
            raise ConfigError(
                f"MoESpec(experts={self.experts}, groups={self.groups}, top_groups={self.top_groups}): "
                "groups must divide experts and be at least top_groups"
            )
        if self.top_k > self.experts // self.groups * self.top_groups:
            raise ConfigError(
                f"MoESpec(top_k={self.top_k}, top_groups={self.top_groups}): "
                "the open groups hold fewer experts than top_k"
            )
        if self.shared_d_ff < 0:
            raise ConfigError(f"MoESpec(shared_d_ff={self.shared_d_ff}): must not be negative")
        if self.shared_gate and not self.shared_d_ff:
            raise ConfigError("MoESpec(shared_gate=True): needs shared_d_ff")


@dataclass(frozen=True)
class MLASpec:
    """Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434): keys and values from one small latent.

    Attributes:
        kv_rank: Width of the latent that is cached for a token.
        rope_dim: Width of the turned part of a head; one turned key serves all heads.
        nope_dim: Width of the part of a query and key that is not turned.
        v_dim: Width of a head's value.
        q_rank: Width of the latent queries are made from; 0 means straight from the residual stream.
        norm_eps: Of the norms on both latents.
    """

    kv_rank: int
    rope_dim: int
    nope_dim: int
    v_dim: int
    q_rank: int = 0
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("kv_rank", "rope_dim", "nope_dim", "v_dim"):
            if getattr(self, name) < 1:
                raise ConfigError(f"MLASpec({name}={getattr(self, name)}): must be at least 1")
        if self.q_rank < 0:
            raise ConfigError(f"MLASpec(q_rank={self.q_rank}): must be 0 (none) or more")


@dataclass(frozen=True)
class LayerSpec:
    """One decoder layer.

    Attributes:
        attn: "full"; "sliding" sees itself and the `window - 1` tokens before; "chunked" sees the tokens
            before it in its own chunk of `window` positions; "mla" is full attention from a latent.
        window: Of "sliding" and "chunked", in tokens.
        rope: How queries and keys are turned; None leaves them alone (NoPE, learned positions).
        mlp: "gated" (gate, up, down), "plain" (up, down) or "moe" (the model's `moe`).
        d_ff: Inner width of the MLP; 0 means the model's. Of no meaning for "moe".
        query_scale: Multiplies the scores; 0 means the model's.
        qk_norm: False leaves the model's `qk_norm` out of this layer (Llama 4 without rope).
        temperature: Attention temperature by position, or None.
        value_embed: The values get an embedding of the token added, through a learned gate (nanochat).
    """

    attn: Literal["full", "sliding", "chunked", "mla"] = "full"
    window: int = 0
    rope: RopeSpec | None = None
    mlp: Literal["gated", "plain", "moe"] = "gated"
    d_ff: int = 0
    query_scale: float = 0.0
    qk_norm: bool = True
    temperature: Temperature | None = None
    value_embed: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if self.attn in ("sliding", "chunked") and self.window < 1:
            raise ConfigError(f"LayerSpec(attn={self.attn!r}, window={self.window}): needs a window")
        if self.attn in ("full", "mla") and self.window:
            raise ConfigError(f"LayerSpec(attn={self.attn!r}, window={self.window}): has no window")
