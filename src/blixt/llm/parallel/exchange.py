"""The two exchanges of tensor parallel (f and g of Megatron-LM, arXiv:1909.08053), differentiable."""

from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from blixt.llm.losses.head import eager

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

T = TypeVar("T")


def summed_backward(value: T, mesh: "DeviceMesh") -> T:
    """The value itself; its gradient is the sum of what the ranks of `mesh` find. Others pass as they are."""
    if isinstance(value, Tensor) and value.is_floating_point() and value.requires_grad:
        return cast("T", _enter(cast("Tensor", value), mesh.get_group()))
    return value


def summed(value: Tensor, mesh: "DeviceMesh") -> Tensor:
    """The sum over the ranks of `mesh`, on all of them; each gets its gradient whole."""
    return _leave(value, mesh.get_group())


class _Enter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, group: Any) -> Tensor:
        ctx.group = group
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        total = grads[0].contiguous().clone()
        cast("Any", dist).all_reduce(total, group=ctx.group)
        return total, None


class _Leave(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, group: Any) -> Tensor:
        total = value.contiguous().clone()
        cast("Any", dist).all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        return grads[0], None


@eager
def _enter(value: Tensor, group: Any) -> Tensor:
    return cast("Any", _Enter).apply(value, group)


@eager
def _leave(value: Tensor, group: Any) -> Tensor:
    return cast("Any", _Leave).apply(value, group)
