"""Samples into a batch: the tree stays, arrays and numbers are stacked, everything else becomes a list."""

import sys
from typing import Any, cast

import numpy as np

from blixt.data.rows import Allocate

_NUMBERS = {bool: np.dtype(np.bool_), int: np.dtype(np.int64), float: np.dtype(np.float64)}


def collate(samples: list[Any], allocate: Allocate = np.empty) -> Any:
    """Return one batch of the samples.

    Dicts, tuples and lists of equal length stay as they are, with a batch in each place. Numbers and arrays
    (or tensors) of one shape and type are stacked; text, bytes and all others become a list of values.

    Args:
        samples: at least one sample.
        allocate: gives the stacked arrays their memory.

    Example:
        >>> collate([{"x": 1, "name": "a"}, {"x": 2, "name": "b"}])
        {'x': array([1, 2]), 'name': ['a', 'b']}
    """
    first = samples[0]
    if isinstance(first, dict):
        fields = cast("dict[Any, Any]", first)
        return {key: collate([sample[key] for sample in samples], allocate) for key in fields}
    if isinstance(first, (tuple, list)):
        return _collate_items(cast("list[Any]", first), samples, allocate)
    if isinstance(first, (np.ndarray, np.generic)):
        return stack(samples, allocate)
    if type(first) in _NUMBERS:
        return _stack_numbers(samples, _NUMBERS[type(first)], allocate)
    if is_tensor(first):
        return _stack_tensors(samples, allocate)
    return samples


def is_tensor(leaf: Any) -> bool:
    """Whether the leaf is a torch tensor, without importing torch to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(leaf, torch.Tensor)


def _collate_items(first: Any, samples: list[Any], allocate: Allocate) -> Any:
    if not first or any(type(sample) is not type(first) or len(sample) != len(first) for sample in samples):
        return samples
    columns = [collate(list(column), allocate) for column in zip(*samples, strict=True)]
    if isinstance(first, list):
        return columns
    kind = type(cast("tuple[Any, ...]", first))
    return kind(*columns) if hasattr(kind, "_fields") else tuple(columns)


def stack(arrays: list[Any], allocate: Allocate = np.empty) -> Any:
    """Return arrays of one shape and type as one; the list itself where they differ."""
    first: Any = arrays[0]
    for array in arrays:
        if not isinstance(array, (np.ndarray, np.generic)):
            return arrays
        other = cast(Any, array)
        if other.shape != first.shape or other.dtype != first.dtype:
            return arrays
    if first.dtype.hasobject:
        return arrays
    return np.stack(arrays, out=allocate((len(arrays), *first.shape), first.dtype))


def _stack_numbers(numbers: list[Any], dtype: np.dtype[Any], allocate: Allocate) -> Any:
    kinds: set[Any] = {type(number) for number in numbers}
    if kinds <= {int, float} and len(kinds) == 2:
        dtype = _NUMBERS[float]
    elif len(kinds) > 1:
        return numbers
    try:
        stacked = np.array(numbers, dtype)
    except OverflowError:
        return numbers
    out = allocate(stacked.shape, dtype)
    out[...] = stacked
    return out


def _stack_tensors(tensors: list[Any], allocate: Allocate) -> Any:
    torch = sys.modules["torch"]
    first = tensors[0]
    if any(not is_tensor(tensor) or tensor.shape != first.shape for tensor in tensors):
        return tensors
    try:
        arrays = [tensor.detach().numpy() for tensor in tensors]
    except (TypeError, RuntimeError):  # not on the CPU, or a type that numpy lacks
        return torch.stack(tensors)
    stacked = stack(arrays, allocate)
    return torch.from_numpy(stacked) if isinstance(stacked, np.ndarray) else tensors
