"""Mixture of experts: a router picks a few MLPs for each token.

Tokens are sorted by expert, then three grouped matrix products do all experts' work, however many there are
(MegaBlocks, Gale et al. 2022, arXiv:2211.15841). Shapes: N tokens, D width of the residual stream, E experts,
K experts a token visits, F inner width of an expert.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blixt.llm.eager import eager
from blixt.llm.specs import MoESpec

Added = Callable[[str, Tensor, Tensor, Tensor], Tensor | None]
"""What to add to the product with gate, up or down: of the name, rows, ends and experts; None for nothing."""

FEW_VISITS = 256
"""Up to so many visits of experts a CPU multiplies by one visited expert after the other: reading its weights
takes nearly all the time, and the grouped product takes a seventh longer to do so."""


class Router(nn.Module):
    """Chooses each token's experts and their weights: `weight` (E, D), `bias` (E,), `correction` (E,).

    Scores are computed in float32. `correction` moves the choice but not the weights, and gets no gradient:
    whoever trains adjusts it by load (arXiv:2408.15664).
    """

    def __init__(self, d: int, spec: MoESpec) -> None:
        super().__init__()
        self.spec = spec
        self.weight = nn.Parameter(torch.empty(spec.experts, d))
        self.bias = nn.Parameter(torch.zeros(spec.experts)) if spec.router_bias else None
        correction = nn.Parameter(torch.zeros(spec.experts), requires_grad=False)
        self.correction = correction if spec.correction else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, D) to indices and weights of experts, both (N, K)."""
        with torch.autocast(x.device.type, enabled=False):
            bias = None if self.bias is None else self.bias.float()
            logits = F.linear(x.float(), self.weight.float(), bias)  # N E
        return route(logits, self.spec, self.correction)


def route(logits: Tensor, spec: MoESpec, correction: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Indices and weights (N, K) of the experts that logits (N, E) choose."""
    if spec.score == "softmax_topk":
        chosen, index = logits.topk(spec.top_k, dim=-1)
        return index, chosen.softmax(-1) * spec.scale
    scores = logits.sigmoid() if spec.score == "sigmoid" else logits.softmax(-1)
    ranked = scores if correction is None else scores + correction
    if spec.groups > 1:
        ranked = ranked.masked_fill(~_open(ranked, spec), float("-inf"))
    index = ranked.topk(spec.top_k, dim=-1).indices
    weights = scores.gather(-1, index)
    if spec.normalise:
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
    return index, weights * spec.scale


def _open(ranked: Tensor, spec: MoESpec) -> Tensor:
    """True for the experts (N, E) of each token's best groups (DeepSeek-V2, arXiv:2405.04434)."""
    groups = ranked.view(len(ranked), spec.groups, -1)  # N groups E/groups
    best = groups.amax(-1) if spec.group_score == "max" else groups.topk(2, dim=-1).values.sum(-1)
    chosen = best.topk(spec.top_groups, dim=-1).indices
    mask = torch.zeros_like(best, dtype=torch.bool).scatter(-1, chosen, value=True)
    return mask.unsqueeze(-1).expand_as(groups).flatten(-2)


class Experts(nn.Module):
    """All experts' weights, stacked: `gate` and `up` (E, F, D), `down` (E, D, F), and biases if any.

    Attributes:
        row_by_row: Compute every visit by itself, so that its bits do not depend on the others.
    """

    def __init__(self, d: int, spec: MoESpec, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.spec, self.act = spec, act
        self.row_by_row = False
        self.gate = nn.Parameter(torch.empty(spec.experts, spec.d_ff, d))
        self.up = nn.Parameter(torch.empty(spec.experts, spec.d_ff, d))
        self.down = nn.Parameter(torch.empty(spec.experts, d, spec.d_ff))
        self.gate_bias = self._bias(spec.d_ff)
        self.up_bias = self._bias(spec.d_ff)
        self.down_bias = self._bias(d)

    def _bias(self, width: int) -> nn.Parameter | None:
        return nn.Parameter(torch.zeros(self.spec.experts, width)) if self.spec.expert_bias else None

    def forward(self, x: Tensor, index: Tensor, weights: Tensor, added: "Added | None" = None) -> Tensor:
        """What the chosen experts (N, K) make of the tokens (N, D), weighed and summed, (N, D).

        Args:
            x: The tokens.
            index: Their experts.
            weights: What each expert's answer counts.
            added: What an adapter adds to the products.
        """
        alone = added is None and self._on_cpu(x)
        if alone and (self.row_by_row or len(x) == 1):
            return self._visit(x, index, weights)
        sorted_experts, order = torch.sort(index.flatten(), stable=True)
        rows = x[order // index.shape[1]]  # N*K D, an expert's tokens side by side
        weight = weights.flatten()[order].unsqueeze(-1).to(x.dtype)
        if self.spec.weigh_input:
            rows = rows * weight
        few = alone and index.numel() <= FEW_VISITS
        y = self._in_turn(rows, sorted_experts) if few else self._grouped(rows, sorted_experts, added)
        if not self.spec.weigh_input:
            y = _times(y, weight)
        back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=x.device))
        return y[back].view(*index.shape, x.shape[1]).sum(1)

    def _on_cpu(self, x: Tensor) -> bool:
        """Whether it is plain inference on a CPU, where few products need no grouping."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or x.device.type != "cpu":
            return False
        return x.dtype == self.gate.dtype and not torch.is_autocast_enabled("cpu") and len(x) > 0

    def _grouped(self, rows: Tensor, experts: Tensor, added: "Added | None") -> Tensor:
        """What the experts, sorted, make of a row each: one product for all of them."""
        every = torch.arange(self.spec.experts, device=rows.device)
        ends = torch.searchsorted(experts, every, right=True).to(torch.int32)
        h = self._activate(
            self._mapped("gate", rows, ends, experts, added), self._mapped("up", rows, ends, experts, added)
        )
        return self._mapped("down", h, ends, experts, added)

    def _in_turn(self, rows: Tensor, experts: Tensor) -> Tensor:
        """The same, a product for each expert that is visited."""
        visited, counts = cast("Any", torch).unique_consecutive(experts, return_counts=True)
        turns, sizes = _list(visited), _list(counts)

        def mapped(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            y = x.new_empty(len(x), weight.shape[1])
            for expert, part, out in zip(turns, torch.split(x, sizes), torch.split(y, sizes), strict=True):
                torch.mm(part, weight[expert].t(), out=out)
            return y if bias is None else y.add_(bias[experts])

        gate, up = mapped(rows, self.gate, self.gate_bias), mapped(rows, self.up, self.up_bias)
        return mapped(self._activate(gate, up), self.down, self.down_bias)

    def _visit(self, x: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        """`forward`, each expert and token by itself: matrix times vector, nothing sorted or gathered."""
        out: list[Tensor] = []
        for row, experts, shares in zip(x, index, weights.to(x.dtype), strict=True):
            parts = [
                self._alone(row * share if self.spec.weigh_input else row, expert)
                for expert, share in zip(_list(experts), shares, strict=True)
            ]
            y = torch.stack(parts)
            out.append((y if self.spec.weigh_input else y * shares.unsqueeze(-1)).sum(0))
        return torch.stack(out)

    def _alone(self, x: Tensor, expert: int) -> Tensor:
        """One expert's output (D,) for one token (D,)."""
        gate, up = torch.mv(self.gate[expert], x), torch.mv(self.up[expert], x)
        if self.gate_bias is not None and self.up_bias is not None:
            gate, up = gate + self.gate_bias[expert], up + self.up_bias[expert]
        y = torch.mv(self.down[expert], self._activate(gate, up))
        return y if self.down_bias is None else y + self.down_bias[expert]

    def _mapped(self, part: str, x: Tensor, ends: Tensor, experts: Tensor, added: "Added | None") -> Tensor:
        """`product` with gate, up or down, and with what an adapter adds."""
        y = self.product(x, getattr(self, part), getattr(self, f"{part}_bias"), ends, experts)
        extra = None if added is None else added(part, x, ends, experts)
        return y if extra is None else y + extra.to(y.dtype)

    @staticmethod
    def product(x: Tensor, weight: Tensor, bias: Tensor | None, ends: Tensor, experts: Tensor) -> Tensor:
        """Each row times its expert's matrix (out, in); rows of expert e end before `ends[e]`."""
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        product = F.grouped_mm if dtype == torch.bfloat16 else grouped_product
        y = product(x.to(dtype), weight.to(dtype).mT, offs=ends)
        return y if bias is None else y + bias[experts]

    def _activate(self, gate: Tensor, up: Tensor) -> Tensor:
        if self.spec.act != "swiglu_clamped":
            return _times(self.act(gate), up)
        gate = gate.clamp(max=self.spec.limit)
        up = up.clamp(-self.spec.limit, self.spec.limit)
        return gate * torch.sigmoid(gate * self.spec.alpha) * (up + 1)


def _times(fresh: Tensor, factor: Tensor) -> Tensor:
    """The product, in the place of a tensor that nobody else has: new memory for many rows costs more."""
    return fresh * factor if torch.is_grad_enabled() or fresh.dtype != factor.dtype else fresh.mul_(factor)


def _list(index: Tensor) -> list[int]:
    return cast("list[int]", index.tolist())  # pyright: ignore[reportUnknownMemberType] - untyped in torch


@eager
def grouped_product(x: Tensor, weights: Tensor, *, offs: Tensor) -> Tensor:
    """`F.grouped_mm` outside compiled graphs: torch 2.13 can trace it in bfloat16 only."""
    return F.grouped_mm(x, weights, offs=offs)


class MoE(nn.Module):
    """Router, experts, and a shared expert that every token visits.

    Args:
        d: Width of the residual stream.
        spec: What it looks like.
        act: The experts' activation.
        shared: The shared expert, or None.
    """

    def __init__(
        self, d: int, spec: MoESpec, act: Callable[[Tensor], Tensor], shared: nn.Module | None
    ) -> None:
        super().__init__()
        self.router = Router(d, spec)
        self.experts = Experts(d, spec, act)
        self.shared = shared
        self.shared_gate = nn.Linear(d, 1, bias=False) if spec.shared_gate else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to (..., D)."""
        flat = x.flatten(0, -2)
        index, weights = self.router(flat)
        y = self.experts(flat, index, weights)
        if self.shared is not None:
            extra = self.shared(flat)
            if self.shared_gate is not None:
                extra = extra * torch.sigmoid(self.shared_gate(flat))
            y = y + extra
        return y.view_as(x)
