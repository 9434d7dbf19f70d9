"""8-bit floating point (e4m3, Micikevicius et al. 2022, arXiv:2209.05433), one scale an output channel.

GPUs from compute capability 8.9 on multiply in it, activations rounded to it token by token; elsewhere the
weight is widened for each product.
"""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from blixt.llm.quant.base import QuantLinear

LARGEST = 448.0  # the largest e4m3 number
_CAPABILITY = (8, 9)
_MULTIPLE = 16  # sizes that the kernel takes
# Exponents of e4m3 count from 7, those of float16 from 15: moved there bit by bit, a number is 256 times too
# small.
_EXPONENTS_APART = 256.0
_NOT_BIT_14 = -0x4001


class FP8Linear(QuantLinear):
    """Weights in e4m3."""

    scheme: ClassVar[str] = "fp8"
    weight_fp8: Tensor
    scale: Tensor

    def __init__(
        self, in_features: int, out_features: int, *, bias: bool = False, device: Any = None
    ) -> None:
        super().__init__(in_features, out_features, bias=bias, device=device)
        shape = (out_features, in_features)
        self.register_buffer("weight_fp8", torch.empty(shape, dtype=torch.float8_e4m3fn, device=device))
        self.register_buffer("scale", torch.empty(out_features, dtype=torch.float32, device=device))

    @property
    def bits(self) -> float:
        """What one weight takes, scales included."""
        return 8 + 32 / self.in_features

    def store(self, weight: Tensor, start: int) -> None:
        """Round to e4m3, each channel scaled so that its largest weight is the largest number there is."""
        rows = slice(start, start + len(weight))
        numbers, scale = rounded(weight)
        self.weight_fp8[rows], self.scale[rows] = numbers, scale.squeeze(1)

    def take(self, rows: slice, columns: slice) -> None:
        """Keep some outputs and inputs of the weight only."""
        self.weight_fp8, self.scale = self.weight_fp8[rows, columns].clone(), self.scale[rows].clone()

    def dequantize(self) -> Tensor:
        """The weight that the buffers stand for, (out, in) in float32."""
        return _widened(self.weight_fp8) * (self.scale * _EXPONENTS_APART).unsqueeze(1)

    def product(self, x: Tensor) -> Tensor:
        """`x @ weight.T`: (N, in) to (N, out)."""
        if x.device.type == "cuda" and self._fits_kernel(x.device):
            return scaled_product(x, self.weight_fp8, self.scale)
        return F.linear(x, _widened(self.weight_fp8).to(x.dtype)) * (self.scale * _EXPONENTS_APART).to(
            x.dtype
        )

    def _fits_kernel(self, device: torch.device) -> bool:
        fits = not (self.in_features % _MULTIPLE or self.out_features % _MULTIPLE)
        return fits and torch.cuda.get_device_capability(device) >= _CAPABILITY


def rounded(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows in e4m3 and the scale of each: (N, K) to (N, K), (N, 1)."""
    x = x.float()
    scale = x.abs().amax(1, keepdim=True).clamp_(min=1e-12) / LARGEST
    return (x / scale).to(torch.float8_e4m3fn), scale


def scaled_product(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """`x @ (weight * scale).T` with both factors in e4m3.

    Args:
        x: (N, in), rounded here, each row by its own scale.
        weight: (out, in) in e4m3.
        scale: (out,) in float32.

    Returns:
        (N, out) in the dtype of `x`.
    """
    rows, row_scale = rounded(x)
    y = F.scaled_mm(
        rows,
        weight.t(),
        row_scale,
        F.ScalingType.RowWise,
        scale.unsqueeze(0),
        F.ScalingType.RowWise,
        output_dtype=torch.bfloat16,  # the only one that kernels with a scale a row give
    )
    return y.to(x.dtype)


def _widened(weight: Tensor) -> Tensor:
    """e4m3 numbers divided by 256, in float32: bits are moved, ten times faster than PyTorch converts."""
    bits = weight.view(torch.int8).to(torch.int16) << 7
    return (bits & _NOT_BIT_14).view(torch.float16).float()
