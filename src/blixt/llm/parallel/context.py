"""Context parallel: every rank keeps a part of each sequence, and asks the others for keys and values only.

Each sequence is cut into 2 * n pieces, and rank i of n takes pieces i and 2n - 1 - i: so all ranks have
equally much to see under a causal mask. Before attention the ranks gather each other's keys and values, as
Llama 3 was trained (Grattafiori et al. 2024, arXiv:2407.21783, section 3.3.2); with grouped queries they are
small beside the activations, which stay divided. Windows, documents, softcaps and sinks work as they do on
one rank, because each query only has to know which keys it sees.
"""

from dataclasses import fields
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from blixt.llm.attention import Intervals, expand, interval_attention, intervals
from blixt.llm.data import PackedBlock
from blixt.llm.errors import RecipeError
from blixt.llm.losses.head import eager
from blixt.llm.specs import LayerSpec


class ContextParallel:
    """Divides blocks along their sequences among the ranks of a group.

    Args:
        group: The ranks that share each sequence.
        packed: Whether a block's documents are kept apart; else each row is one sequence.
    """

    def __init__(self, group: ProcessGroup, packed: bool = True) -> None:
        self.group, self.packed = group, packed
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)

    def share(self, block: PackedBlock) -> tuple[PackedBlock, "GatheredContext"]:
        """This rank's part of a block (B, T), (B, T / n), and how its queries reach all keys.

        Raises:
            RecipeError: T does not divide into 2 * n pieces.
        """
        length = block.tokens.shape[1]
        if length % (2 * self.size):
            raise RecipeError(
                f"blocks of {length} tokens do not divide among {self.size} ranks of context parallel: "
                f"use a multiple of {2 * self.size}"
            )
        mine = self.places(length, block.tokens.device)
        parts = {f.name: getattr(block, f.name)[:, mine] for f in fields(PackedBlock)}
        return PackedBlock(**parts), GatheredContext(block, mine, self)

    def places(self, length: int, device: torch.device, rank: int | None = None) -> Tensor:
        """The places of a sequence that a rank (by default this one) has, (length / n,)."""
        piece = length // (2 * self.size)
        rank = self.rank if rank is None else rank
        starts = (rank * piece, (2 * self.size - 1 - rank) * piece)
        return torch.cat([torch.arange(start, start + piece, device=device) for start in starts])

    def gather(self, part: Tensor) -> Tensor:
        """All ranks' parts (B, T / n, ...) as the whole (B, T, ...); gradients go back summed."""
        length = part.shape[1] * self.size
        places = [self.places(length, part.device, rank) for rank in range(self.size)]
        whole = _apply(part, self.group)  # n B T/n ...
        order = torch.cat(places).argsort()
        return whole.transpose(0, 1).flatten(1, 2).index_select(1, order)


class GatheredContext:
    """The queries of one rank's part against the keys of whole sequences; see `Context`.

    Args:
        block: The whole block, (B, T).
        mine: The places that are this rank's, (T / n,).
        cp: Gathers.
    """

    def __init__(self, block: PackedBlock, mine: Tensor, cp: ContextParallel) -> None:
        self.cp, self.mine = cp, mine
        shape = block.tokens.shape
        self.index = torch.arange(shape[1], device=mine.device).expand(shape)
        self.whole = block.positions if cp.packed else self.index
        self.positions = self.whole[:, mine]
        self.lengths: int | Tensor = _lengths(self.whole)[:, mine] if cp.packed else shape[1]
        self._plans: dict[tuple[str, int], Intervals] = {}

    def attend(
        self,
        layer: int,
        spec: LayerSpec,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        scale: float,
        softcap: float = 0.0,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """See `Context.attend`; q is (B, T / n, H, C)."""
        keys, values = self.cp.gather(k), self.cp.gather(v)
        return interval_attention(
            q, keys, values, self._plan(spec), scale=scale, softcap=softcap, sinks=sinks
        )

    def attend_latent(
        self,
        layer: int,
        spec: LayerSpec,
        q: Tensor,
        latent: Tensor,
        k_rope: Tensor,
        kv_b: nn.Module,
        *,
        scale: float,
        softcap: float = 0.0,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """See `Context.attend_latent`: the small latents travel, keys and values are made from them here."""
        k, v = expand(self.cp.gather(latent), self.cp.gather(k_rope), kv_b, q.shape[-2], q.shape[-1])
        return interval_attention(q, k, v, self._plan(spec), scale=scale, softcap=softcap, sinks=sinks)

    def finish(self) -> None:
        """Nothing to count."""

    def _plan(self, spec: LayerSpec) -> Intervals:
        kind = (spec.attn, spec.window)
        if kind not in self._plans:
            begin = self.index - self.whole  # where each token's sequence begins
            first = begin
            if spec.attn == "sliding":
                first = torch.maximum(begin, self.index - (spec.window - 1))
            if spec.attn == "chunked":
                first = begin + self.whole - self.whole % spec.window
            self._plans[kind] = intervals(first[:, self.mine], self.index[:, self.mine], self.index.shape[1])
        return self._plans[kind]


def _lengths(positions: Tensor) -> Tensor:
    """Length of the document that each token of (B, T) belongs to, from places that begin anew in each."""
    starts = positions == 0
    number = starts.cumsum(1) - 1
    count = torch.zeros_like(positions).scatter_add_(1, number, torch.ones_like(positions))
    return count.gather(1, number)


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        size = dist.get_world_size(group)
        whole = part.new_empty(size, *part.shape)
        cast("Any", dist).all_gather_into_tensor(
            whole.view(-1, *part.shape[1:]), part.contiguous(), group=group
        )
        return whole

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        mine = torch.empty_like(grad[0])
        cast("Any", dist).reduce_scatter_tensor(mine, grad.contiguous().flatten(0, 1), group=ctx.group)
        return mine, None


@eager
def _apply(part: Tensor, group: ProcessGroup) -> Tensor:
    return cast("Any", _AllGather).apply(part, group)
