"""Collective operations over nested data, between the processes of a group."""

from collections.abc import Callable
from typing import Any, Literal, TypeVar, cast

import torch
import torch.distributed as dist
from torch.distributed import ProcessGroup

from blixt.fabric.errors import ConfigError, nearest
from blixt.fabric.tree import map_tensors

# torch leaves the types of what its collectives take open.
_untyped = cast("Any", dist)

T = TypeVar("T")
ReduceOp = Literal["mean", "avg", "sum", "min", "max", "product"]

_OPS = {
    "mean": dist.ReduceOp.SUM,
    "avg": dist.ReduceOp.SUM,
    "sum": dist.ReduceOp.SUM,
    "min": dist.ReduceOp.MIN,
    "max": dist.ReduceOp.MAX,
    "product": dist.ReduceOp.PRODUCT,
}


def active() -> bool:
    """Whether this process trains together with others."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def all_reduce(data: T, op: ReduceOp, device: torch.device, group: ProcessGroup | None = None) -> T:
    """Every tensor and number in `data`, reduced over the processes; `data` is unchanged.

    Of one process the tensors come back themselves. Of several, integers under "mean" become 32-bit floats,
    because a mean of integers need not be one.

    Raises:
        ConfigError: When there is no such operation.
    """
    key = op.lower()
    if key not in _OPS:
        raise ConfigError(
            "all_reduce(reduce_op)", op, "there is no such operation", nearest(op, _OPS).rstrip("?")
        )
    averages = key in ("mean", "avg")

    def reduce(tensor: torch.Tensor) -> torch.Tensor:
        if averages and not (tensor.is_floating_point() or tensor.is_complex()):
            tensor = tensor.float()
        home = tensor.device
        result = tensor.detach().to(device, copy=True)
        _untyped.all_reduce(result, _OPS[key], group=group)
        return (result / dist.get_world_size(group) if averages else result).to(home)

    return _with_numbers(data, reduce if active() else lambda tensor: tensor)


def all_gather(
    data: T, device: torch.device, group: ProcessGroup | None = None, *, sync_grads: bool = False
) -> T:
    """Every tensor and number in `data` gets a first dimension of size world_size, in order of rank.

    With `sync_grads` the result is part of the graph: backward sums, on each process, the gradients that
    all processes have for its tensor.
    """

    def gather(tensor: torch.Tensor) -> torch.Tensor:
        if not active():
            return (tensor if sync_grads else tensor.detach()).unsqueeze(0)
        source = tensor.to(device).contiguous()
        if sync_grads:
            from torch.distributed.nn import functional

            parts = cast("Any", functional).all_gather(source, group=group or dist.group.WORLD)
        else:
            source = source.detach()
            parts = [torch.empty_like(source) for _ in range(dist.get_world_size(group))]
            _untyped.all_gather(parts, source, group=group)
        return torch.stack(list(parts)).to(tensor.device)

    return _with_numbers(data, gather)


def all_gather_objects(item: T) -> list[T]:
    """One picklable object from every process, in order of rank."""
    if not active():
        return [item]
    items: list[Any] = [None] * dist.get_world_size()
    _untyped.all_gather_object(items, item)
    return items


def broadcast(item: T, source: int) -> T:
    """The picklable object that process `source` holds."""
    if not active():
        return item
    box: list[Any] = [item]
    dist.broadcast_object_list(box, src=source)
    return box[0]


def barrier(device: torch.device) -> None:
    """Wait until every process is here."""
    if active():
        _untyped.barrier(device_ids=[device.index] if device.type == "cuda" else None)


def _with_numbers(data: Any, fn: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """`map_tensors`, with bare numbers taken as tensors."""

    def item(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return fn(value)
        return fn(torch.tensor(value)) if isinstance(value, (bool, int, float, complex)) else value

    return map_leaves(data, item)


def map_leaves(data: Any, fn: Callable[[Any], Any]) -> Any:
    """A copy of nested `data` with `fn(item)` in place of everything that holds nothing else."""
    if isinstance(data, dict):
        return {key: map_leaves(value, fn) for key, value in cast("dict[Any, Any]", data).items()}
    if isinstance(data, (list, tuple)) and not isinstance(data, torch.Size):
        sequence = cast("Any", data)
        values = [map_leaves(value, fn) for value in sequence]
        return type(sequence)(*values) if hasattr(sequence, "_fields") else type(sequence)(values)
    return fn(data) if isinstance(data, (torch.Tensor, bool, int, float, complex)) else map_tensors(data, fn)
