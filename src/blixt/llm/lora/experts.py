"""Adapters on a mixture of experts: products for stacked matrices, and for the router."""

import math
from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blixt.llm.lora.layer import LoRALayer, dense_weight, dtype_of, place_of
from blixt.llm.moe import Experts, Router, route

PARTS = ("gate", "up", "down")
_EVEN = 8  # grouped products want rows of a multiple of 16 bytes


class LoRAExperts(LoRALayer):
    """Experts plus trained products, one an expert: y = W_e x + scale * B_e A_e x for gate, up or down.

    Tokens are sorted by expert once; the thin products are grouped as the base's are.

    Args:
        base: `Experts`, quantised or not; frozen.
        ranks: Rank and scale of the parts that get an adapter, by "gate", "up" and "down".
        dropout: Share of the inputs of A that is left out in training.

    Attributes:
        scales: By part; its matrices are `gate_lora_a` (E, r, in) and `gate_lora_b` (E, out, r).
    """

    def __init__(self, base: nn.Module, ranks: Mapping[str, tuple[int, float]], dropout: float = 0.0) -> None:
        super().__init__(base)
        self.dropout = dropout
        self.scales = {part: scale for part, (_, scale) in ranks.items()}
        device, dtype = place_of(base)
        for part, (rank, _) in ranks.items():
            count, out_features, in_features = stack_shape(base, part)
            a = nn.Parameter(torch.empty(count, rank, in_features, device=device, dtype=dtype))
            b = nn.Parameter(torch.zeros(count, out_features, rank, device=device, dtype=dtype))
            nn.init.uniform_(
                a, -1 / math.sqrt(in_features), 1 / math.sqrt(in_features)
            )  # as a linear layer's
            self.register_parameter(f"{part}_lora_a", a)
            self.register_parameter(f"{part}_lora_b", b)

    def pair(self, part: str) -> tuple[Tensor, Tensor]:
        """A part's two matrices."""
        return self.get_parameter(f"{part}_lora_a"), self.get_parameter(f"{part}_lora_b")

    def forward(self, x: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        """As the experts: tokens (N, D), indices and weights (N, K) to (N, D)."""
        if not self.enabled or self.merged:
            return self.base(x, index, weights)
        return self.base(x, index, weights, self._added)

    def folded(self) -> nn.Module:
        """Dense experts of the sums."""
        base = cast("Experts", self.base)
        shapes = stack_shape(base, "gate")
        with torch.device("meta"):
            made = Experts(shapes[2], base.spec, base.act)
        made.row_by_row = getattr(base, "row_by_row", False)
        dtype = dtype_of(base)
        for part in PARTS:
            weight = dense_stack(base, part)
            if part in self.scales:
                a, b = self.pair(part)
                weight = weight.float() + self.scales[part] * (b.float() @ a.float())
            setattr(made, part, nn.Parameter(weight.to(dtype), requires_grad=False))
            setattr(made, f"{part}_bias", getattr(base, f"{part}_bias"))
        return made.train(base.training)

    def _added(self, part: str, x: Tensor, ends: Tensor, experts: Tensor) -> Tensor | None:
        if part not in self.scales:
            return None
        inner = F.dropout(x, self.dropout) if self.training and self.dropout else x
        return grouped_pair(*self.pair(part), self.scales[part], inner, ends, experts)

    def extra_repr(self) -> str:
        """Parts, ranks and scales."""
        return ", ".join(
            f"{part}: r={self.pair(part)[0].shape[1]}, scale={s:g}" for part, s in self.scales.items()
        )


class LoRARouter(LoRALayer):
    """A router plus a trained product: its logits are (W + scale * B A) x.

    Args:
        base: The router; frozen.
        r: Rank.
        scale: Of the product.

    Attributes:
        lora_a: (r, D).
        lora_b: (E, r), zero at first.
    """

    def __init__(self, base: nn.Module, r: int, scale: float) -> None:
        super().__init__(base)
        self.r, self.scale = r, scale
        weight = cast("Tensor", base.weight)
        device, dtype = place_of(base)
        self.lora_a = nn.Parameter(torch.empty(r, weight.shape[1], device=device, dtype=dtype))
        self.lora_b = nn.Parameter(torch.zeros(weight.shape[0], r, device=device, dtype=dtype))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, D) to indices and weights of experts, both (N, K)."""
        if not self.enabled or self.merged:
            return self.base(x)
        base = cast("Router", self.base)
        with torch.autocast(x.device.type, enabled=False):
            bias = None if base.bias is None else base.bias.float()
            logits = F.linear(x.float(), self._sum(), bias)
        return route(logits, base.spec, base.correction)

    def folded(self) -> nn.Module:
        """A router of the sum."""
        base = cast("Router", self.base)
        with torch.device("meta"):
            made = Router(base.weight.shape[1], base.spec)
        made.weight = nn.Parameter(self._sum().to(base.weight.dtype), requires_grad=False)
        made.bias, made.correction = base.bias, base.correction
        return made.train(base.training)

    def _sum(self) -> Tensor:
        weight = cast("Tensor", self.base.weight)
        return weight.float() + self.scale * (self.lora_b.float() @ self.lora_a.float())


def grouped_pair(a: Tensor, b: Tensor, scale: float, x: Tensor, ends: Tensor, experts: Tensor) -> Tensor:
    """scale * B_e A_e x of rows (N, in) that lie sorted by expert.

    Args:
        a: (E, r, in).
        b: (E, out, r).
        scale: Of the product.
        x: The rows.
        ends: Where each expert's rows end.
        experts: Each row's expert.
    """
    missing = -a.shape[1] % _EVEN
    if missing:
        a, b = F.pad(a, (0, 0, 0, missing)), F.pad(b, (0, missing))
    thin = Experts.product(x.to(a.dtype), a, None, ends, experts)
    return Experts.product(thin, b, None, ends, experts) * scale


def stack_shape(base: nn.Module, part: str) -> tuple[int, int, int]:
    """Experts, outputs and inputs of a part."""
    own = getattr(base, part)
    if isinstance(own, Tensor):
        return cast("tuple[int, int, int]", tuple(own.shape))
    return len(own), int(own[0].out_features), int(own[0].in_features)


def dense_stack(base: nn.Module, part: str) -> Tensor:
    """The matrices of a part, (E, out, in), quantised or not."""
    own = getattr(base, part)
    if isinstance(own, Tensor):
        return own.detach()
    return torch.stack([dense_weight(layer) for layer in own])
