"""The experts of a mixture in fewer bits: one quantised layer for each of their matrices."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from blixt.llm.moe import Experts
from blixt.llm.quant.base import QuantLinear

_MATRICES = ("gate", "up", "down")


class QuantExperts(Experts):
    """Stands where `Experts` stood; each expert that a batch visits multiplies by itself.

    Args:
        experts: Says how they are activated, and gives the biases. Its matrices are not kept.
        layers: For each of gate, up and down, the experts' layers in order.
    """

    def __init__(self, experts: Experts, layers: dict[str, Iterable[QuantLinear]]) -> None:
        nn.Module.__init__(self)
        self.spec, self.act = experts.spec, experts.act
        for name in _MATRICES:
            self.add_module(name, nn.ModuleList(layers[name]))
            self.register_parameter(f"{name}_bias", getattr(experts, f"{name}_bias"))

    @classmethod
    def from_experts(cls, experts: Experts, kind: type[QuantLinear], **options: Any) -> "QuantExperts":
        """The same experts in fewer bits, converted one by one."""
        return cls(
            experts,
            {
                name: [kind.from_weight(matrix.detach(), **options) for matrix in getattr(experts, name)]
                for name in _MATRICES
            },
        )

    @classmethod
    def empty(cls, experts: Experts, kind: type[QuantLinear], **options: Any) -> "QuantExperts":
        """The shape of it without values, to be filled from a file."""
        layers: dict[str, Iterable[QuantLinear]] = {}
        for name in _MATRICES:
            count, out_features, in_features = getattr(experts, name).shape
            layers[name] = [kind(in_features, out_features, device="meta", **options) for _ in range(count)]
        return cls(experts, layers)

    def _on_cpu(self, x: Tensor) -> bool:
        return False  # its layers take rows, and do not depend on their number

    @staticmethod
    def product(x: Tensor, weight: Any, bias: Tensor | None, ends: Tensor, experts: Tensor) -> Tensor:
        """Each row times its expert's matrix; rows of expert e end before `ends[e]`."""
        counts = ends.diff(prepend=ends.new_zeros(1)).cpu()
        parts: list[Tensor] = [
            layer(rows)
            for layer, rows in zip(weight, torch.split(x, [int(count) for count in counts]), strict=True)
            if len(rows)
        ]
        y = torch.cat(parts)
        return y if bias is None else y + bias[experts]
