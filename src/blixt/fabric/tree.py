"""Apply a function to every tensor in nested dicts, lists, tuples and dataclasses."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch


def map_tensors(data: Any, fn: Callable[[torch.Tensor], Any]) -> Any:
    """A copy of `data` with `fn(tensor)` in place of every tensor; anything else is kept as it is."""
    if isinstance(data, torch.Tensor):
        return fn(data)
    if isinstance(data, Mapping):
        mapping = cast("Any", data)
        items = {key: map_tensors(value, fn) for key, value in mapping.items()}
        return items if type(mapping) is dict else type(mapping)(items)
    if isinstance(data, (list, tuple)):
        sequence = cast("Any", data)
        values = [map_tensors(value, fn) for value in sequence]
        return type(sequence)(*values) if hasattr(sequence, "_fields") else type(sequence)(values)
    if dataclasses.is_dataclass(data) and not isinstance(data, type):
        fields = {f.name: map_tensors(getattr(data, f.name), fn) for f in dataclasses.fields(data) if f.init}
        return dataclasses.replace(data, **fields)
    return data


def tensors(data: Any) -> Iterator[torch.Tensor]:
    """Every tensor in `data`, depth first, in the order of the containers."""
    if isinstance(data, torch.Tensor):
        yield data
    elif isinstance(data, Mapping):
        for value in cast("Mapping[Any, Any]", data).values():
            yield from tensors(value)
    elif isinstance(data, (list, tuple)):
        for value in cast("list[Any]", data):
            yield from tensors(value)
    elif dataclasses.is_dataclass(data) and not isinstance(data, type):
        for field in dataclasses.fields(data):
            yield from tensors(getattr(data, field.name))


def to_device(data: Any, device: torch.device) -> Any:
    """Move every tensor (and every object with a `to` method) in `data` to `device`.

    Copies from pinned memory overlap with computation. What already is on the device is not copied.
    """
    if hasattr(data, "to") and not isinstance(data, torch.Tensor):
        return data.to(device)
    return map_tensors(data, lambda tensor: tensor.to(device, non_blocking=device.type == "cuda"))
