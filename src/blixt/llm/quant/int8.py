"""8-bit integers: one scale an output channel, products in whole numbers.

On a CPU the product of two int8 matrices is several times faster than that of floats, and exact: a row's
result does not depend on the rows beside it. `Int8Linear` writes each activation as the sum of two int8
numbers, which keeps 15 bits of it, so only the weights lose precision; `Int8DynamicLinear` rounds activations
to 8 bits, each token by its own largest one, and needs one product instead of two, but for the tokens whose
largest activation stands so far out that 8 bits leave little for the others.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from blixt.llm.quant.base import QuantLinear
from blixt.llm.quant.kernels import int8_product

_LARGEST = 127
_FINE = 254  # a rounding error is at most half a step, so its own step is 1/254 of it
_FAR_OUT = 20.0
"""Times the root of the mean square. In SmolLM2 7 % of the rows have an activation beyond it; they make three
quarters of what rounding to 8 bits costs in perplexity."""
_CUDA_ROWS = 32  # torch._int_mm on CUDA wants more than 16 rows, and a multiple of 8


class Int8Linear(QuantLinear):
    """Weights in int8, activations as they are (to 15 bits on the CPU)."""

    scheme: ClassVar[str] = "int8"
    weight_int8: Tensor
    scale: Tensor

    def __init__(
        self, in_features: int, out_features: int, *, bias: bool = False, device: Any = None
    ) -> None:
        super().__init__(in_features, out_features, bias=bias, device=device)
        shape = (out_features, in_features)
        self.register_buffer("weight_int8", torch.empty(shape, dtype=torch.int8, device=device))
        self.register_buffer("scale", torch.empty(out_features, dtype=torch.float32, device=device))

    @property
    def bits(self) -> float:
        """What one weight takes, scales included."""
        return 8 + 32 / self.in_features

    def store(self, weight: Tensor, start: int) -> None:
        """Round to the nearest of 255 steps between a channel's largest weight and its negative."""
        rows = slice(start, start + len(weight))
        rounded, step = _rounded(weight)
        self.weight_int8[rows], self.scale[rows] = rounded.to(torch.int8), step.squeeze(1)

    def take(self, rows: slice, columns: slice) -> None:
        """Keep some outputs and inputs of the weight only."""
        self.weight_int8, self.scale = self.weight_int8[rows, columns].clone(), self.scale[rows].clone()

    def dequantize(self) -> Tensor:
        """The weight that the buffers stand for, (out, in) in float32."""
        return self.weight_int8.float() * self.scale.unsqueeze(1)

    def product(self, x: Tensor) -> Tensor:
        """`x @ weight.T`: (N, in) to (N, out)."""
        if x.device.type != "cpu":
            return (x @ self.weight_int8.t().to(x.dtype)) * self.scale.to(x.dtype)
        coarse, step = _rounded(x.float())
        fine = ((x / step - coarse) * _FINE).round_()
        both = int8_product(torch.cat((coarse, fine)).to(torch.int8), self.weight_int8)
        high, low = both.float().chunk(2)
        return low.mul_(1 / _FINE).add_(high).mul_(step).mul_(self.scale).to(x.dtype)


class Int8DynamicLinear(Int8Linear):
    """Weights and activations in int8, each token with its own scale; on a CPU outliers get 15 bits."""

    scheme: ClassVar[str] = "int8-dynamic"

    def product(self, x: Tensor) -> Tensor:
        """`x @ weight.T`: (N, in) to (N, out)."""
        given = x.float()
        coarse, step = _rounded(given)
        rows = coarse.to(torch.int8)
        if x.device.type == "cuda":
            missing = max(_CUDA_ROWS - len(rows), -len(rows) % 8)
            rows = torch.nn.functional.pad(rows, (0, 0, 0, missing))
        y = int8_product(rows, self.weight_int8)[: len(x)].float()
        if x.device.type == "cpu":
            far = _far_out(given, step)
            if len(far):
                fine = ((given[far] / step[far] - coarse[far]) * _FINE).round_().to(torch.int8)
                y.index_add_(0, far, int8_product(fine, self.weight_int8).float(), alpha=1 / _FINE)
        return y.mul_(step).mul_(self.scale).to(x.dtype)


def _rounded(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows as whole numbers up to 127, still floats, and the step of each: (N, K), (N, 1)."""
    step = x.abs().amax(1, keepdim=True).clamp_(min=1e-12).div_(_LARGEST)
    return (x / step).round_(), step


def _far_out(x: Tensor, step: Tensor) -> Tensor:
    """Indices of the rows whose largest value is far above their others."""
    usual = x.square().mean(1).sqrt()
    return torch.argwhere(step.squeeze(1) * _LARGEST > usual * _FAR_OUT).squeeze(1)
