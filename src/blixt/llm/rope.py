"""Rotary position embeddings: the angle of every pair of a head at every position, and the turn itself.

Frequencies are made once for each device, angles once for each forward pass and kind of layer. Nothing grows
with the model's context.
"""

import math

import torch
from torch import Tensor

from blixt.llm.specs import RopeSpec


class Rope:
    """The angles of one `RopeSpec`.

    Args:
        spec: With `dim` set.
        width: Width of a head (of the part of it that can be turned, in latent attention).
    """

    def __init__(self, spec: RopeSpec, width: int) -> None:
        self.spec = spec
        self.width = width
        self.scale = attention_factor(spec)
        self._frequencies: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def __call__(self, positions: Tensor, lengths: int | Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine of each token's pairs, float32.

        Args:
            positions: Place of each token in its sequence, (...).
            lengths: Length of the sequence each token belongs to: one number, or one a token (...).

        Returns:
            Two tensors (..., 1, pairs): the 1 stands for the heads.
        """
        angles = positions.unsqueeze(-1).float() * self.frequencies(positions.device, lengths)
        sine = angles.sin() * (-self.scale if self.spec.reverse else self.scale)
        return (angles.cos() * self.scale).unsqueeze(-2), sine.unsqueeze(-2)

    def frequencies(self, device: torch.device, lengths: int | Tensor = 0) -> Tensor:
        """Radians a position, (pairs,); or (..., pairs) where they depend on each sequence's length."""
        spec = self.spec
        if spec.kind == "dynamic":
            return _dynamic(spec, lengths, device)
        if device not in self._frequencies:
            self._frequencies[device] = (
                frequencies(spec, self.width).to(device),
                frequencies(spec, self.width, long=True).to(device),
            )
        short, long = self._frequencies[device]
        if spec.kind != "longrope":
            return short
        if isinstance(lengths, int):
            return long if lengths > spec.original_context else short
        return torch.where((lengths > spec.original_context).unsqueeze(-1), long, short)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False) -> Tensor:
    """Turn the first `2 * pairs` numbers of each head.

    Args:
        x: Heads, (..., H, C).
        cos: Cosines, (..., 1, pairs), from `Rope`.
        sin: Sines, the same.
        interleaved: Pairs are neighbours, not the two halves of the turned part.
    """
    turned = 2 * cos.shape[-1]
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    part = x if turned == x.shape[-1] else x[..., :turned]
    if interleaved:
        left, right = part[..., 0::2], part[..., 1::2]
        y = torch.stack((left * cos - right * sin, right * cos + left * sin), dim=-1).flatten(-2)
    elif not torch.is_grad_enabled() and not torch.compiler.is_compiling():
        y = _turned(part, cos, sin)
    else:
        left, right = part.chunk(2, dim=-1)
        y = torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)
    return y if part is x else torch.cat((y, x[..., turned:]), dim=-1)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The turn of `rotate` with fewer temporaries, which is twice as fast on a CPU, without gradients."""
    y = torch.empty_like(x)
    left, right = x.chunk(2, dim=-1)
    new_left, new_right = y.chunk(2, dim=-1)
    torch.mul(left, cos, out=new_left).addcmul_(right, sin, value=-1)
    torch.mul(right, cos, out=new_right).addcmul_(left, sin)
    return y


def frequencies(spec: RopeSpec, width: int, long: bool = False) -> Tensor:
    """Radians a position of each pair, float32 on the CPU; all kinds but "dynamic".

    Args:
        spec: With `dim` set.
        width: Width of a head, which "proportional" spreads its frequencies over.
        long: Take the factors for long sequences in "longrope".
    """
    plain = _powers(spec.base, spec.dim, spec.dim)
    if spec.kind == "linear":
        return plain / spec.factor
    if spec.kind == "llama3":
        return _llama3(spec, plain)
    if spec.kind == "yarn":
        return _yarn(spec, plain)
    if spec.kind == "longrope":
        return plain / torch.tensor(spec.long_factors if long else spec.short_factors)
    if spec.kind == "proportional":
        still = torch.zeros((width - spec.dim) // 2)
        return torch.cat((_powers(spec.base, spec.dim, width), still)) / spec.factor
    return plain


def attention_factor(spec: RopeSpec) -> float:
    """What cosine and sine are multiplied by: 1 but for "yarn" and "longrope", whose papers say how much."""
    if spec.attention_factor is not None:
        return spec.attention_factor
    if spec.kind == "yarn" and spec.mscale and spec.mscale_all_dim:
        return yarn_scale(spec.factor, spec.mscale) / yarn_scale(spec.factor, spec.mscale_all_dim)
    if spec.kind == "yarn":
        return yarn_scale(spec.factor)
    if spec.kind == "longrope" and spec.factor > 1:
        return math.sqrt(1 + math.log(spec.factor) / math.log(spec.original_context))
    return 1.0


def yarn_scale(factor: float, mscale: float = 1.0) -> float:
    """YaRN's answer to the entropy a longer context adds (arXiv:2309.00071, equation 22)."""
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0


def _powers(base: float, dim: int, width: int) -> Tensor:
    return 1.0 / base ** (torch.arange(0, dim, 2, dtype=torch.float32, device="cpu") / width)


def _dynamic(spec: RopeSpec, lengths: int | Tensor, device: torch.device) -> Tensor:
    """NTK by length: the base grows so that the slowest pair covers the sequence."""
    longest = torch.as_tensor(lengths, dtype=torch.float32, device=device).clamp(min=spec.original_context)
    stretch = spec.factor * longest / spec.original_context - (spec.factor - 1)
    base = spec.base * stretch ** (spec.dim / (spec.dim - 2))
    return 1.0 / base.unsqueeze(-1) ** (
        torch.arange(0, spec.dim, 2, dtype=torch.float32, device=device) / spec.dim
    )


def _llama3(spec: RopeSpec, plain: Tensor) -> Tensor:
    """Slow pairs are divided by `factor`, fast ones left alone, a ramp lies between."""
    turns = spec.original_context * plain / (2 * math.pi)  # turns within the original context
    band = spec.high_freq_factor - spec.low_freq_factor
    ramp = ((turns - spec.low_freq_factor) / (band or 1e-9)).clamp(0, 1)  # Llama 4 Scout has no band between
    return (1 - ramp) * plain / spec.factor + ramp * plain


def _yarn(spec: RopeSpec, plain: Tensor) -> Tensor:
    """Pairs that turn more than `beta_fast` times keep their speed, below `beta_slow` are divided."""
    low, high = (_yarn_pair(spec, turns) for turns in (spec.beta_fast, spec.beta_slow))
    if spec.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, spec.dim - 1)
    pairs = torch.arange(spec.dim // 2, dtype=torch.float32)
    ramp = ((pairs - low) / (high - low if high > low else 0.001)).clamp(0, 1)
    return ramp * plain / spec.factor + (1 - ramp) * plain


def _yarn_pair(spec: RopeSpec, turns: float) -> float:
    """Which pair (a fraction) turns that often within the original context."""
    wavelength = spec.original_context / (turns * 2 * math.pi)
    return spec.dim * math.log(wavelength) / (2 * math.log(spec.base))
