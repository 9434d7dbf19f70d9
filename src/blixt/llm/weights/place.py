"""One tensor's place in a model: on the meta device, in memory, or sharded over a mesh."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Slot:
    """Where a tensor of a model lives.

    Attributes:
        name: Its name in the whole model, the first one when it is shared.
        owners: The modules that have it, with its name there.
        is_parameter: A parameter, not a buffer.
    """

    name: str
    owners: tuple[tuple[nn.Module, str], ...]
    is_parameter: bool

    @property
    def is_trained(self) -> bool:
        """A parameter that has gradients, unlike a router's correction."""
        return self.is_parameter and self.tensor.requires_grad

    @property
    def tensor(self) -> Tensor:
        """What is there now."""
        module, leaf = self.owners[0]
        return cast("Tensor", getattr(module, leaf))

    def replace(self, tensor: Tensor) -> None:
        """Set it in every module that has it."""
        for module, leaf in self.owners:
            setattr(module, leaf, tensor)


def targets(model: nn.Module) -> dict[str, Slot]:
    """Every parameter and every buffer that is saved, by name; a shared one once, under its first name."""
    names_of: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names_of.setdefault(id(parameter), []).append(name)
    found = {names[0]: _slot(model, names, is_parameter=True) for names in names_of.values()}
    saved = model.state_dict(keep_vars=True).keys()
    for name, _ in model.named_buffers():
        if name in saved:
            found[name] = _slot(model, [name], is_parameter=False)
    return found


def local_part(tensor: Tensor, slot: Slot) -> Tensor:
    """The rows or columns that this rank keeps of a whole tensor; the whole where nothing is sharded.

    A slice of a mapped file is a view: the other ranks' rows are never read.
    """
    from torch.distributed.tensor import DTensor

    target = slot.tensor
    if not isinstance(target, DTensor):
        return tensor
    from torch.distributed.tensor._utils import (  # the one place torch computes uneven shards
        compute_local_shape_and_global_offset,
    )

    shape, offset = compute_local_shape_and_global_offset(target.shape, target.device_mesh, target.placements)
    for dim, (size, start) in enumerate(zip(shape, offset, strict=True)):
        tensor = tensor.narrow(dim, start, size) if size != tensor.shape[dim] else tensor
    return tensor


def put(slot: Slot, value: Tensor, *, dtype: torch.dtype, device: torch.device, copy: bool) -> None:
    """Set a slot's value: replace a meta tensor, write into a real one.

    Args:
        slot: The place.
        value: This rank's part.
        dtype: To convert to.
        device: Where a replaced tensor goes.
        copy: Share no memory with `value`.
    """
    target = cast("Any", slot.tensor)
    local = target.to_local() if hasattr(target, "to_local") else target
    if not local.is_meta:
        local.copy_(value)
        return
    sharded = hasattr(target, "to_local")
    made = value.to(device=device, dtype=dtype, copy=copy)
    if copy or (sharded and not made.is_contiguous()):
        made = made.contiguous()
    if sharded:
        made = _sharded_like(target, made)
    if slot.is_parameter:
        made = nn.Parameter(made, requires_grad=target.requires_grad and made.is_floating_point())
    slot.replace(made)


def _sharded_like(target: Any, local: Tensor) -> Tensor:
    """A DTensor of this rank's part, with the layout of another."""
    return cast(
        "Tensor",
        cast("Any", type(target)).from_local(
            local,
            target.device_mesh,
            target.placements,
            run_check=False,
            shape=target.shape,
            stride=target.stride(),
        ),
    )


def _slot(model: nn.Module, names: list[str], *, is_parameter: bool) -> Slot:
    owners: list[tuple[nn.Module, str]] = []
    for name in names:
        path, _, leaf = name.rpartition(".")
        owners.append((model.get_submodule(path), leaf))
    return Slot(names[0], tuple(owners), is_parameter)
