"""Asking about sharded tensors without paying for `torch.distributed.tensor` where there are none."""

import sys
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def is_dtensor(value: object) -> "TypeGuard[DTensor]":
    """Whether `value` is a tensor spread over a mesh. Importing that class costs most of a second."""
    module: Any = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(value, module.DTensor)


def whole(value: Any) -> Any:
    """`value` with a sharded tensor put together on the CPU (a collective); anything else as it is."""
    if is_dtensor(value):
        full: Any = value
        return full.full_tensor().detach().cpu()
    return value


def local(value: Any) -> Any:
    """This process's part of a sharded tensor; anything else as it is."""
    part: Any = value
    return part.to_local() if is_dtensor(value) else value
