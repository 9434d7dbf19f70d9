"""What every linear layer with weights below 16 bits has in common."""

import math
from abc import abstractmethod
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn

from blixt.llm.errors import QuantError

_ROWS_AT_ONCE = 1024


class QuantLinear(nn.Module):
    """A frozen linear layer whose weight is kept in few bits; stands where an `nn.Linear` stood.

    A scheme is a subclass: it names its buffers, fills them from a weight, and multiplies. Gradients flow to
    the input, so adapters can be trained on top; the weight itself has none.

    Args:
        in_features: Width of the input.
        out_features: Width of the output.
        bias: Whether one is added.
        device: Where the buffers are made; "meta" makes none.

    Attributes:
        scheme: The name that `quantize` knows it by.
        bits: What one weight takes, scales included.
    """

    scheme: ClassVar[str]
    bias: Tensor | None

    def __init__(
        self, in_features: int, out_features: int, *, bias: bool = False, device: Any = None
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.register_buffer("bias", torch.empty(out_features, device=device) if bias else None)

    @classmethod
    def from_linear(cls, linear: nn.Module, **options: Any) -> Self:
        """The same layer in fewer bits.

        Args:
            linear: Has `weight` (out, in) and perhaps `bias`.
            **options: The scheme's own, such as `group`.
        """
        weight, bias = linear.weight, getattr(linear, "bias", None)
        assert isinstance(weight, Tensor)
        layer = cls.from_weight(weight.detach(), **options)
        layer.bias = None if bias is None else bias.detach()
        return layer.train(linear.training)

    @classmethod
    def from_weight(cls, weight: Tensor, **options: Any) -> Self:
        """A layer without bias that multiplies by about this weight, (out, in)."""
        out_features, in_features = weight.shape
        # What stays is allocated before what is needed for a moment, or the heap could not shrink again.
        layer = cls(in_features, out_features, device=weight.device, **options)
        for start in range(0, out_features, _ROWS_AT_ONCE):
            layer.store(weight[start : start + _ROWS_AT_ONCE].float(), start)
        return layer

    @property
    @abstractmethod
    def bits(self) -> float:
        """What one weight takes, scales included."""

    @abstractmethod
    def store(self, weight: Tensor, start: int) -> None:
        """Fill the buffers from rows of the weight.

        Args:
            weight: (rows, in) in float32; a multiple of 64 rows, unless they are the last.
            start: Index of the first of them.
        """

    @abstractmethod
    def dequantize(self) -> Tensor:
        """The weight that the buffers stand for, (out, in) in float32."""

    @abstractmethod
    def product(self, x: Tensor) -> Tensor:
        """`x @ weight.T` without bias: (N, in) to (N, out) in the dtype of `x`."""

    @property
    def step(self) -> int:
        """Neighbouring inputs that share a scale, so that a layer divided by inputs is cut between them."""
        return 1

    @abstractmethod
    def take(self, rows: slice, columns: slice) -> None:
        """Keep some outputs and inputs of the weight only, in place; sizes are still the old ones.

        Args:
            rows: Outputs.
            columns: Inputs, from and to a multiple of `step`.
        """

    def keep_part(self, dim: int, part: int, parts: int) -> None:
        """Keep one of equal parts of the weight, as tensor parallel does, in place.

        Args:
            dim: 0 divides the outputs, 1 the inputs.
            part: Which, from 0.
            parts: How many.

        Raises:
            QuantError: Numbers that share a scale would be parted.
        """
        size = (self.out_features, self.in_features)[dim]
        share = size // parts
        unit = self.step if dim == 1 else self.step // math.gcd(self.step, self.in_features)
        if size % parts or share % unit:
            raise QuantError(
                f"{self.scheme} shares scales among {self.step} weights, so a layer of {self.out_features} x "
                f"{self.in_features} does not divide among {parts} ranks: use int8, or another parallel.tp"
            )
        chosen, whole = slice(part * share, (part + 1) * share), slice(None)
        self.take(chosen, whole) if dim == 0 else self.take(whole, chosen)
        if dim == 0:
            self.out_features = share
            self.bias = None if self.bias is None else self.bias[chosen].clone()
        else:
            self.in_features = share

    def options(self) -> dict[str, Any]:
        """What `from_linear` was given besides the layer."""
        return {}

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        rows = x.reshape(-1, self.in_features)
        if torch.is_grad_enabled() and x.requires_grad:
            y = cast("Tensor", _Product.apply(rows, self))  # pyright: ignore[reportUnknownMemberType] - untyped
        else:
            y = self.product(rows)
        if self.bias is not None:
            y = y + self.bias.to(y.dtype)
        return y.view(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """Sizes, for printing a model."""
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, bits={self.bits:g}"


class _Product(torch.autograd.Function):
    """The product, with the gradient of the input: the weight is made anew for the way back, not kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: QuantLinear) -> Tensor:
        ctx.layer = layer
        return layer.product(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        layer: QuantLinear = ctx.layer
        return grads[0] @ layer.dequantize().to(grads[0].dtype), None
