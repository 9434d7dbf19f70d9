"""4-bit integers with a scale and an offset for each group of weights in a row.

On a CPU the product runs in PyTorch's 4-bit kernel, in bfloat16; elsewhere, and where gradients are needed,
the weight is made anew for each product.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blixt.llm.errors import QuantError
from blixt.llm.quant.base import QuantLinear
from blixt.llm.quant.kernels import int4_kernel_codes, int4_product

_STEPS = 15
_MIDDLE = 8  # the kernel counts codes from the middle: weight = (code - 8) * scale + offset
_KERNEL_GROUPS = (32, 64, 128, 256)
_KERNEL_ROWS = 16  # it works on output channels 16 at a time
_RESTORED_AT_ONCE = 512


class Int4Linear(QuantLinear):
    """Weights in 4 bits, groups of them along the input.

    Args:
        in_features: Width of the input.
        out_features: Width of the output.
        bias: Whether one is added.
        group: Weights that share a scale and an offset; 32 takes 5 bits a weight, 128 takes 4.25.
        device: Where the buffers are made.

    Raises:
        QuantError: `group` is odd or does not divide `in_features`.
    """

    scheme: ClassVar[str] = "int4"
    codes: Tensor | None
    scale_offset: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = False,
        group: int = 32,
        device: Any = None,
    ) -> None:
        super().__init__(in_features, out_features, bias=bias, device=device)
        if group < 2 or group % 2 or in_features % group:
            raise QuantError(
                f"int4 with group={group} does not fit a layer of {in_features} inputs: "
                "give an even number that divides it, or skip the layer"
            )
        self.group = group
        shape = (out_features, in_features // 2)
        self.register_buffer("codes", torch.empty(shape, dtype=torch.uint8, device=device))
        shape = (in_features // group, out_features, 2)
        self.register_buffer("scale_offset", torch.empty(shape, dtype=torch.bfloat16, device=device))
        self._kernel_codes: Tensor | None = None
        cast("Any", self).register_state_dict_pre_hook(_restore)

    @property
    def bits(self) -> float:
        """What one weight takes, scales included."""
        return 4 + 32 / self.group

    def options(self) -> dict[str, Any]:
        """The group."""
        return {"group": self.group}

    def store(self, weight: Tensor, start: int) -> None:
        """Spread 16 steps evenly between a group's smallest and largest weight."""
        assert self.codes is not None
        rows = slice(start, start + len(weight))
        groups = weight.view(len(weight), -1, self.group)
        low, high = groups.aminmax(dim=2)
        scale = ((high - low) / _STEPS).clamp_(min=1e-12).bfloat16().float()
        offset = (low + _MIDDLE * scale).bfloat16().float()
        codes = ((groups - offset.unsqueeze(2)) / scale.unsqueeze(2) + _MIDDLE).round_().clamp_(0, _STEPS)
        self.codes[rows] = _packed(codes.to(torch.uint8).view(len(weight), self.in_features))
        self.scale_offset[:, rows] = torch.stack((scale, offset), 2).transpose(0, 1).bfloat16()

    @property
    def step(self) -> int:
        """The group."""
        return self.group

    def take(self, rows: slice, columns: slice) -> None:
        """Keep some outputs and inputs of the weight only."""
        self.restore()
        assert self.codes is not None
        first, last, _ = columns.indices(self.in_features)
        self.codes = self.codes[rows, first // 2 : last // 2].clone()
        self.scale_offset = self.scale_offset[first // self.group : last // self.group, rows].clone()

    def dequantize(self) -> Tensor:
        """The weight that the buffers stand for, (out, in) in float32."""
        groups = self._integers().view(self.out_features, -1, self.group).float() - _MIDDLE
        scale, offset = self.scale_offset.float().transpose(0, 1).unsqueeze(2).unbind(3)
        return (groups * scale + offset).view(self.out_features, self.in_features)

    def product(self, x: Tensor) -> Tensor:
        """`x @ weight.T`: (N, in) to (N, out)."""
        kernel = x.device.type == "cpu" and self.group in _KERNEL_GROUPS and not torch.is_grad_enabled()
        if not kernel or self.out_features % _KERNEL_ROWS:
            return F.linear(x, self.dequantize().to(x.dtype))
        if self._kernel_codes is None:
            # The kernel has its own order of codes; ours are dropped, they can be had back from it.
            self._kernel_codes = int4_kernel_codes(self._integers().int())
            self.codes = None
        return int4_product(x.bfloat16(), self._kernel_codes, self.group, self.scale_offset).to(x.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What moves a module to another device or dtype."""
        self.restore()
        return super()._apply(fn, recurse)  # pyright: ignore[reportUnknownMemberType] - torch leaves `fn` open

    def restore(self) -> None:
        """Bring the codes into the order in which they are saved, if a product has changed it."""
        if self._kernel_codes is None:
            return
        units: tuple[Tensor, ...] = torch.split(
            torch.eye(self.in_features, dtype=torch.bfloat16), _RESTORED_AT_ONCE
        )
        columns = [int4_product(some, self._kernel_codes, self.group, self.scale_offset) for some in units]
        groups = torch.cat(columns).float().t().reshape(self.out_features, -1, self.group)
        scale, offset = self.scale_offset.float().transpose(0, 1).unsqueeze(2).unbind(3)
        codes = ((groups - offset) / scale + _MIDDLE).round_().clamp_(0, _STEPS).to(torch.uint8)
        self.codes = _packed(codes.view(self.out_features, self.in_features))
        self._kernel_codes = None

    def _integers(self) -> Tensor:
        """The codes one by one, (out, in) in uint8."""
        self.restore()
        assert self.codes is not None
        return torch.stack((self.codes >> 4, self.codes & 15), 2).view(self.out_features, self.in_features)


def _restore(layer: nn.Module, prefix: str, keep_vars: bool) -> None:
    """Before a layer is saved."""
    cast("Int4Linear", layer).restore()


def _packed(codes: Tensor) -> Tensor:
    """Two codes a byte, the first in the upper half: (out, in) to (out, in / 2)."""
    return codes[:, ::2] << 4 | codes[:, 1::2]
