"""Encoders of ggml's K formats and of MXFP4: blocks of 256 numbers with scales that are quantised themselves.

How a block is laid out is fixed by the readers; how scales are found is not. Here each group of numbers tries
several scales, and keeps the one with the least weighted squared error after a least-squares fit.
"""

from collections.abc import Callable

import torch
from torch import Tensor

SUPER = 256
_SHIFTS = tuple(i / 5 for i in range(-5, 6))  # of the code that the largest number gets
_PIECE = 1 << 11  # super-blocks at once: temporaries stay in the processor's cache


def q4_k(blocks: Tensor) -> Tensor:
    """Scale and offset float16, 8 scales and offsets of 6 bits, 256 numbers of 4: (N, 256) to (N, 144)."""
    return _in_pieces(_q4_k, blocks)


def q5_k(blocks: Tensor) -> Tensor:
    """As `q4_k` with a fifth bit of each number apart: (N, 256) to (N, 176)."""
    return _in_pieces(_q5_k, blocks)


def q6_k(blocks: Tensor) -> Tensor:
    """256 numbers of 6 bits, 16 scales int8, their scale float16: (N, 256) to (N, 210)."""
    return _in_pieces(_q6_k, blocks)


def mxfp4(blocks: Tensor) -> Tensor:
    """A power of two, then 32 numbers of 4 bits, each 0, 0.5, 1, 1.5, 2, 3, 4 or 6: (N, 32) to (N, 17)."""
    largest = blocks.abs().amax(1, keepdim=True)
    exponent = torch.where(largest > 0, torch.frexp(largest).exponent - 3 + 127, 0).clamp(0, 254)
    scaled = torch.ldexp(blocks.abs().double(), 128 - exponent)  # in halves; exact, whatever the exponent
    between = torch.tensor([0.5, 1.5, 2.5, 3.5, 5.0, 7.0, 10.0], dtype=torch.float64)
    codes = torch.bucketize(scaled, between)
    codes = (codes + 8 * ((blocks < 0) & (codes > 0))).to(torch.uint8)
    return torch.cat([exponent.to(torch.uint8), codes[:, :16] | (codes[:, 16:] << 4)], 1)


def _q4_k(blocks: Tensor) -> Tensor:
    head, codes = _with_offsets(blocks, 15)
    pairs = codes.view(-1, 4, 2, 32)
    return torch.cat([head, (pairs[:, :, 0] | (pairs[:, :, 1] << 4)).flatten(1)], 1)


def _q5_k(blocks: Tensor) -> Tensor:
    head, codes = _with_offsets(blocks, 31)
    low, high = (codes & 15).view(-1, 4, 2, 32), codes >> 4  # high: (N, 8, 32), bit i of byte j is group i's
    bits = (high << torch.arange(8, dtype=torch.uint8).view(1, 8, 1)).sum(1, dtype=torch.uint8)
    return torch.cat([head, bits, (low[:, :, 0] | (low[:, :, 1] << 4)).flatten(1)], 1)


def _q6_k(blocks: Tensor) -> Tensor:
    groups = blocks.view(-1, 16, 16)
    found = _symmetric(groups, 32)
    extreme = found.gather(1, found.abs().argmax(1, keepdim=True))
    outer = (extreme / -128).half()
    scales = (found * _inverse(outer.float())).round().clamp(-128, 127)
    steps = (outer.float() * scales).unsqueeze(-1)
    codes = ((groups * _inverse(steps)).round().clamp(-32, 31) + 32).to(torch.uint8).view(-1, 2, 4, 32)
    low, high = codes & 15, codes >> 4
    lows = torch.cat([low[:, :, 0] | (low[:, :, 2] << 4), low[:, :, 1] | (low[:, :, 3] << 4)], 2)
    shifts = torch.tensor([0, 2, 4, 6], dtype=torch.uint8).view(1, 1, 4, 1)
    highs = (high << shifts).sum(2, dtype=torch.uint8)
    inner = scales.to(torch.int8).view(torch.uint8)
    return torch.cat([lows.flatten(1), highs.flatten(1), inner, outer.view(torch.uint8)], 1)


def _with_offsets(blocks: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """A block's first 16 bytes, and codes (N, 8, 32) up to `top`: x = d * scale * code - m * offset."""
    groups = blocks.view(-1, 8, 32)
    scale, offset = _affine(groups, top)
    d, m = ((part.amax(1, keepdim=True) / 63).half() for part in (scale, offset))
    scales, offsets = (
        (part * _inverse(outer.float())).round().clamp(0, 63) for part, outer in ((scale, d), (offset, m))
    )
    steps, shift = (d.float() * scales).unsqueeze(-1), (m.float() * offsets).unsqueeze(-1)
    codes = ((groups + shift) * _inverse(steps)).round().clamp(0, top).to(torch.uint8)
    packed = _six_bits(scales.to(torch.uint8), offsets.to(torch.uint8))
    return torch.cat([d.view(torch.uint8), m.view(torch.uint8), packed], 1), codes


def _six_bits(scales: Tensor, offsets: Tensor) -> Tensor:
    """Two times 8 numbers of 6 bits, (N, 8) each, in 12 bytes: upper bits of the last four ride along."""
    first = (scales[:, :4] & 63) | ((scales[:, 4:] >> 4) << 6)
    second = (offsets[:, :4] & 63) | ((offsets[:, 4:] >> 4) << 6)
    return torch.cat([first, second, (scales[:, 4:] & 15) | ((offsets[:, 4:] & 15) << 4)], 1)


def _affine(x: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Scale and offset, neither below zero, of each group (..., n) for x = scale * code - offset."""
    weight = x.square().mean(-1, keepdim=True).sqrt() + x.abs()  # large numbers matter more
    least, largest = x.amin(-1, keepdim=True).clamp(max=0), x.amax(-1, keepdim=True)
    span = (largest - least).clamp(min=0)
    total, drawn = weight.sum(-1), (weight * x).sum(-1)
    best = torch.full(x.shape[:-1], torch.inf)
    scale, offset = (span / top).squeeze(-1), -least.squeeze(-1)
    for shift in _SHIFTS:
        codes = ((x - least) * (_inverse(span) * (top + shift))).round().clamp(0, top)
        weighed = weight * codes
        first, second, mixed = weighed.sum(-1), (weighed * codes).sum(-1), (weighed * x).sum(-1)
        s = (total * mixed - drawn * first) * _inverse(total * second - first.square())
        m = (drawn - s * first) * _inverse(total)
        above = m > 0
        s, m = torch.where(above, mixed * _inverse(second), s), m.clamp(max=0)
        error = (weight * (s.unsqueeze(-1) * codes + m.unsqueeze(-1) - x).square()).sum(-1)
        better = (error < best) & (s > 0)
        best = torch.where(better, error, best)
        scale, offset = torch.where(better, s, scale), torch.where(better, -m, offset)
    return scale, offset


def _symmetric(x: Tensor, half: int) -> Tensor:
    """The scale, of either sign, of each group (..., n) for x = scale * code, code in [-half, half)."""
    extreme = x.gather(-1, x.abs().argmax(-1, keepdim=True))
    weight = x.square()
    best, scale = torch.full(x.shape[:-1], -torch.inf), torch.zeros(x.shape[:-1])
    for shift in _SHIFTS:
        codes = (x * (_inverse(extreme) * -(half + shift))).round().clamp(-half, half - 1)
        weighed = weight * codes
        mixed, second = (weighed * x).sum(-1), (weighed * codes).sum(-1)
        gained = mixed.square() * _inverse(second)  # what the fit takes off the squared error
        better = gained > best
        best = torch.where(better, gained, best)
        scale = torch.where(better, mixed * _inverse(second), scale)
    return scale


def _in_pieces(encode: Callable[[Tensor], Tensor], blocks: Tensor) -> Tensor:
    return torch.cat([encode(piece) for piece in torch.split(blocks, _PIECE)])


def _inverse(number: Tensor) -> Tensor:
    return torch.where(number == 0, 0.0, 1 / number)
