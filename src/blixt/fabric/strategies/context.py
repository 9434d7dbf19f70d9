"""Sequences divided among processes where torch has no ring attention: keys and values are gathered."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.distributed as dist
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from blixt.fabric.errors import ConfigError


@contextmanager
def gathered_attention(
    group: Any, buffers: Sequence[torch.Tensor], sequence_dims: Sequence[int], restore: bool
) -> Generator[None]:
    """While inside, `buffers` hold this process's part of their sequences, and attention sees the whole.

    Args:
        group: The processes that share sequences.
        buffers: Changed in place.
        sequence_dims: A dimension each.
        restore: Give the buffers their content back at the end.

    Raises:
        ConfigError: When a sequence does not divide evenly.
    """
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    before = [buffer.detach().clone() if restore else None for buffer in buffers]
    for buffer, dim in zip(buffers, sequence_dims, strict=True):
        if buffer.shape[dim] % size:
            reason = f"it cannot be divided by {size} processes"
            fix = "Fill sequences up to a multiple"
            raise ConfigError("context_parallel(buffers)", f"length {buffer.shape[dim]}", reason, fix)
        _put(buffer, buffer.detach().chunk(size, dim)[rank].clone())
    try:
        with _GatheredAttention(group):
            yield
    finally:
        for buffer, whole in zip(buffers, before, strict=True):
            if whole is not None:
                _put(buffer, whole)


def _put(buffer: torch.Tensor, content: torch.Tensor) -> None:
    with torch.no_grad():
        buffer.resize_(content.shape)
        buffer.copy_(content)


class _GatheredAttention(TorchFunctionMode):
    """`scaled_dot_product_attention` of this process's queries over all processes' keys and values."""

    def __init__(self, group: Any) -> None:
        super().__init__()
        self._group = group

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.scaled_dot_product_attention:
            return self._attend(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **more: Any,
    ) -> torch.Tensor:
        if attn_mask is not None:
            reason = "a mask of one's own is not divided with the sequences"
            raise ConfigError("scaled_dot_product_attention(attn_mask)", "...", reason, "Use is_causal")
        whole_key, whole_value = (cast("Any", _Gather).apply(part, self._group) for part in (key, value))
        if is_causal:
            first = dist.get_rank(self._group) * query.shape[-2]
            places = torch.arange(whole_key.shape[-2], device=query.device)
            attn_mask = places[first : first + query.shape[-2], None] >= places
        return functional.scaled_dot_product_attention(
            query, whole_key, whole_value, attn_mask, dropout_p, **more
        )


class _Gather(torch.autograd.Function):
    """Parts of a sequence, put together in the order of the processes; gradients find their way back."""

    @staticmethod
    def forward(ctx: Any, part: torch.Tensor, group: Any) -> torch.Tensor:
        ctx.group = group
        parts = [torch.empty_like(part) for _ in range(dist.get_world_size(group))]
        cast("Any", dist).all_gather(parts, part.contiguous(), group=group)
        return torch.cat(parts, dim=-2)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        whole = grads[0].contiguous().clone()
        cast("Any", dist).all_reduce(whole, group=ctx.group)
        parts = whole.chunk(dist.get_world_size(ctx.group), dim=-2)
        return parts[dist.get_rank(ctx.group)].contiguous(), None
