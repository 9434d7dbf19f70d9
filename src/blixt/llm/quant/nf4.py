"""NormalFloat in 4 bits: codes for the quantiles of a normal distribution, one scale a block.

From QLoRA (Dettmers et al. 2023, arXiv:2305.14314), in the layout of bitsandbytes, whose kernels are used
where it is installed; without it the weight is looked up by PyTorch alone.
"""

from functools import cache
from importlib.util import find_spec
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from blixt.llm.errors import QuantError
from blixt.llm.quant.base import QuantLinear

BLOCK = 64
# The 16 values of the format, section 3 and appendix E of the paper.
VALUES = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)


class NF4Linear(QuantLinear):
    """Weights in 4-bit NormalFloat, blocks of 64 along the input.

    Raises:
        QuantError: The layer has a number of weights that blocks of 64 do not divide.
    """

    scheme: ClassVar[str] = "nf4"
    codes: Tensor
    absmax: Tensor

    def __init__(
        self, in_features: int, out_features: int, *, bias: bool = False, device: Any = None
    ) -> None:
        super().__init__(in_features, out_features, bias=bias, device=device)
        count = in_features * out_features
        if count % BLOCK:
            raise QuantError(
                f"nf4 does not fit a layer of {in_features} x {out_features}: "
                f"{BLOCK} must divide the number of weights; skip the layer"
            )
        self.register_buffer("codes", torch.empty(count // 2, dtype=torch.uint8, device=device))
        self.register_buffer("absmax", torch.empty(count // BLOCK, dtype=torch.float32, device=device))

    @property
    def bits(self) -> float:
        """What one weight takes, scales included."""
        return 4 + 32 / BLOCK

    def store(self, weight: Tensor, start: int) -> None:
        """Take the nearest value to each weight, after dividing its block by the largest in it."""
        blocks = weight.reshape(-1, BLOCK)
        absmax = blocks.abs().amax(1)
        scaled = blocks / absmax.clamp(min=1e-30).unsqueeze(1)
        codes = torch.zeros_like(scaled, dtype=torch.uint8)
        for boundary in _boundaries():
            codes += scaled > boundary  # twice as fast as a search in all of them
        codes = codes.view(-1)
        first = start * self.in_features // BLOCK
        self.absmax[first : first + len(blocks)] = absmax
        self.codes[first * BLOCK // 2 : (first + len(blocks)) * BLOCK // 2] = codes[::2] << 4 | codes[1::2]

    @property
    def step(self) -> int:
        """The block."""
        return BLOCK

    def take(self, rows: slice, columns: slice) -> None:
        """Keep some outputs and inputs of the weight only."""
        first, last, _ = rows.indices(self.out_features)
        left, right, _ = columns.indices(self.in_features)
        if (left, right) == (0, self.in_features):  # blocks may reach from row to row
            start, end = first * self.in_features, last * self.in_features
            self.codes = self.codes[start // 2 : end // 2].clone()
            self.absmax = self.absmax[start // BLOCK : end // BLOCK].clone()
            return
        codes = self.codes.view(self.out_features, -1)[rows, left // 2 : right // 2]
        scales = self.absmax.view(self.out_features, -1)[rows, left // BLOCK : right // BLOCK]
        self.codes, self.absmax = codes.flatten(), scales.flatten()

    def dequantize(self) -> Tensor:
        """The weight that the buffers stand for, (out, in) in float32."""
        if _bitsandbytes():
            return self._dequantize_there(torch.float32)
        # Two values at once: a byte selects a pair of float32, moved as one number of 64 bits.
        pairs = _pairs(self.codes.device).index_select(0, self.codes.int()).view(torch.float32)
        values = pairs.view(-1, BLOCK) * self.absmax.unsqueeze(1)
        return values.view(self.out_features, self.in_features)

    def product(self, x: Tensor) -> Tensor:
        """`x @ weight.T`: (N, in) to (N, out)."""
        if x.device.type == "cuda" and _bitsandbytes():
            import bitsandbytes

            multiply: Any = bitsandbytes.matmul_4bit
            return multiply(x, self.codes.view(-1, 1).t(), quant_state=self._state(x.dtype))
        return F.linear(x, self.dequantize().to(x.dtype))

    def _dequantize_there(self, dtype: torch.dtype) -> Tensor:
        from bitsandbytes import functional

        state = self._state(dtype)
        return functional.dequantize_4bit(self.codes.view(-1, 1), state)

    def _state(self, dtype: torch.dtype) -> Any:
        """What bitsandbytes wants to know about the codes."""
        from bitsandbytes.functional import QuantState

        return QuantState(
            absmax=self.absmax,
            shape=torch.Size((self.out_features, self.in_features)),
            code=_values(self.codes.device),
            blocksize=BLOCK,
            quant_type="nf4",
            dtype=dtype,
        )


@cache
def _bitsandbytes() -> bool:
    return find_spec("bitsandbytes") is not None


@cache
def _values(device: torch.device) -> Tensor:
    return torch.tensor(VALUES, device=device)


@cache
def _boundaries() -> list[float]:
    values = torch.tensor(VALUES)
    return [float(boundary) for boundary in (values[1:] + values[:-1]) / 2]


@cache
def _pairs(device: torch.device) -> Tensor:
    """The two values of every byte, (256,) pairs of float32 seen as float64."""
    values = _values(device)
    both = torch.stack((values.repeat_interleave(16), values.repeat(16)), 1)
    return both.contiguous().view(torch.float64).view(-1)
