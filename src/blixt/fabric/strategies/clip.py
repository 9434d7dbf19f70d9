"""Bounding gradients, whether they are plain tensors or shards spread over a mesh of processes."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from blixt.fabric.strategies.dtensors import is_dtensor, local

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    Groups = dict[DeviceMesh | None, list[nn.Parameter]]


def clip_norm(
    parameters: Iterable[nn.Parameter],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> torch.Tensor:
    """Scale gradients so that their total norm is at most `max_norm`; returns the norm before.

    Gradients may be `DTensor`s of several meshes: torch combines those of one mesh, this function the meshes.
    """
    with_grad = [parameter for parameter in parameters if parameter.grad is not None]
    if not any(is_dtensor(parameter.grad) for parameter in with_grad):
        return nn.utils.clip_grad_norm_(
            with_grad, max_norm, norm_type=norm_type, error_if_nonfinite=error_if_nonfinite
        )
    groups = by_mesh(with_grad)
    total = total_norm(groups, norm_type)
    refuse_nonfinite(total, norm_type, error_if_nonfinite)
    for group in groups.values():
        nn.utils.clip_grads_with_norm_(group, max_norm, total)
    return total


def clip_value(parameters: Iterable[nn.Parameter], bound: float) -> None:
    """Clamp every gradient to [-bound, bound]; every process clamps its own shard."""
    for parameter in parameters:
        grad = parameter.grad
        if grad is not None:
            local(grad).clamp_(-bound, bound)


def by_mesh(parameters: Iterable[nn.Parameter]) -> "Groups":
    """Parameters with a gradient, by the mesh of it; None for plain tensors."""
    groups: Groups = {}
    for parameter in parameters:
        grad = parameter.grad
        if grad is not None:
            mesh = grad.device_mesh if is_dtensor(grad) else None
            groups.setdefault(mesh, []).append(parameter)
    return groups


def total_norm(groups: "Groups", norm_type: float) -> torch.Tensor:
    """The norm of all gradients in `groups` together, as a plain tensor."""
    norms: list[torch.Tensor] = []
    for group in groups.values():
        grads = [cast("torch.Tensor", parameter.grad) for parameter in group]
        norm = nn.utils.get_total_norm(grads, norm_type)
        norms.append(cast("Any", norm).full_tensor() if is_dtensor(norm) else norm)
    if not norms:
        return torch.zeros(())
    return (
        norms[0] if len(norms) == 1 else cast("Any", torch.linalg).vector_norm(torch.stack(norms), norm_type)
    )


def refuse_nonfinite(total: torch.Tensor, norm_type: float, wanted: bool) -> None:
    """Raise when the norm is NaN or infinite and `wanted` says that this is an error."""
    if wanted and not bool(torch.isfinite(total)):
        raise RuntimeError(
            f"The total norm of order {norm_type} of the gradients is {float(total)}. "
            "Find out where it comes from, or pass error_if_nonfinite=False to go on."
        )
