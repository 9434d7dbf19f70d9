"""Collective operations over nested data, between the processes of the default group."""

from collections.abc import Callable
from typing import Any, Literal, TypeVar, cast

import torch
import torch.distributed as dist

from blixt.fabric.tree import map_tensors

# torch leaves the types of what its collectives take open.
_untyped = cast("Any", dist)

T = TypeVar("T")
ReduceOp = Literal["mean", "avg", "sum", "min", "max"]

_OPS = {
    "mean": dist.ReduceOp.SUM,
    "avg": dist.ReduceOp.SUM,
    "sum": dist.ReduceOp.SUM,
    "min": dist.ReduceOp.MIN,
    "max": dist.ReduceOp.MAX,
}


def active() -> bool:
    """Whether this process trains together with others."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def all_reduce(data: T, op: ReduceOp, device: torch.device) -> T:
    """Every tensor and number in `data`, reduced over the processes; a new object, `data` is unchanged.

    Integers under "mean" become 32-bit floats, because a mean of integers need not be one.
    """

    def reduce(tensor: torch.Tensor) -> torch.Tensor:
        averages = op in ("mean", "avg")
        if averages and not tensor.is_floating_point():
            tensor = tensor.float()
        home = tensor.device
        result = tensor.detach().to(device, copy=True)
        _untyped.all_reduce(result, _OPS[op])
        return (result / dist.get_world_size() if averages else result).to(home)

    return _with_numbers(data, reduce) if active() else data


def all_gather(data: T, device: torch.device) -> T:
    """Every tensor and number in `data` gets a first dimension of size world_size, in order of rank."""

    def gather(tensor: torch.Tensor) -> torch.Tensor:
        if not active():
            return tensor.detach().unsqueeze(0)
        source = tensor.detach().to(device).contiguous()
        parts = [torch.empty_like(source) for _ in range(dist.get_world_size())]
        _untyped.all_gather(parts, source)
        return torch.stack(parts).to(tensor.device)

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
    if isinstance(data, dict):
        return {key: _with_numbers(value, fn) for key, value in cast("dict[Any, Any]", data).items()}
    if isinstance(data, (int, float)):
        return fn(torch.tensor(data))
    return map_tensors(data, fn)
