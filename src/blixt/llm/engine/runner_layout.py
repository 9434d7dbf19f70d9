"""How a CPU likes its matrices: weights stored input-major, and never one row alone when bits shall not vary.

Measured with torch 2.13 and MKL on AVX-512, single precision: `F.linear` of 4 to 32 rows takes 1.4 to 2
times as long with weights stored (out, in) as with the same weights stored (in, out), and a row's result
depends on how many rows there are, up to 16. Stored (in, out), rows have the same bits at 2 rows or more,
whatever the others are. One row alone is 8 % faster the usual way.
"""

import torch
from torch import Tensor, nn

from blixt.llm.model import GPT
from blixt.llm.moe import Experts, Router

BATCHED_ROWS = range(3, 65)
"""Steps with so many rows gain from input-major weights."""
STEPS_TO_CHANGE = 8
"""After so many of them the copy has paid for itself soon."""
LOGIT_ROWS = 16
"""The head keeps its layout (it may be the embedding too); from here on its rows have the same bits."""


class Layout:
    """Watches the steps and changes the weights' layout when it pays; on other devices it does nothing.

    Args:
        model: Its `nn.Linear` weights may be stored anew: same values, shapes and names, other strides.
            Parameters that are being trained are left alone.
        batch_invariant: Change at once and pad, so that a row has the same bits in any batch.
    """

    def __init__(self, model: GPT, *, batch_invariant: bool = False) -> None:
        self.batch_invariant = batch_invariant
        self._linears = [m for m in model.blocks.modules() if type(m) is nn.Linear and _may_change(m.weight)]
        self._on_cpu = model.embed.weight.device.type == "cpu"
        self._steps = 0
        self._routers: list[nn.Parameter] = []
        self._experts = [m for m in model.blocks.modules() if isinstance(m, Experts)]
        for experts in self._experts:
            experts.row_by_row = batch_invariant
        if batch_invariant:
            self._experts = []  # each of their rows is a product by itself
            self._routers = [m.weight for m in model.blocks.modules() if isinstance(m, Router)]
            self.change()

    def rows(self, count: int) -> int:
        """How many rows a step of `count` shall have."""
        if self._linears and count in BATCHED_ROWS:
            self._steps += 1
            if self._steps >= STEPS_TO_CHANGE:
                self.change()
        return max(count, 2) if self.batch_invariant and self._on_cpu else count

    def pad_logit_rows(self, hidden: Tensor) -> Tensor:
        """More rows (zeros) below (R, D), where that makes the head faster or its bits the same."""
        few = 0 if self.batch_invariant else 4
        if not self._on_cpu or not few < len(hidden) < LOGIT_ROWS:
            return hidden
        return torch.cat((hidden, hidden.new_zeros(LOGIT_ROWS - len(hidden), hidden.shape[1])))

    @torch.inference_mode(False)  # a step asks for this, but the weights shall stay fit for training
    @torch.no_grad()
    def change(self) -> None:
        """Store the weights of all linear layers and experts of the blocks input-major."""
        stacked = [w for e in self._experts if type(e) is Experts for w in (e.gate, e.up, e.down)]
        weights = [linear.weight for linear in self._linears]
        for weight in [*weights, *filter(_may_change, self._routers + stacked)]:
            weight.data = weight.data.mT.contiguous().mT
        self._linears, self._routers, self._experts = [], [], []


def _may_change(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and not weight.requires_grad
