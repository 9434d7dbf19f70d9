"""Nested lists, tuples and dicts of loaders: taken apart into a flat list, and batches put together alike."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch

Rebuild = Callable[[list[Any]], Any]


def flatten(collection: Any) -> tuple[list[Any], Rebuild]:
    """The loaders in `collection`, depth first, and how to arrange as many values like them.

    A list of numbers, text or tensors is a loader itself: those are batches.

    Example:
        >>> loaders, rebuild = flatten({"a": range(3), "b": [range(2), [1, 2]]})
        >>> loaders
        [range(0, 3), range(0, 2), [1, 2]]
        >>> rebuild([0, 1, 2])
        {'a': 0, 'b': [1, 2]}
    """
    leaves: list[Any] = []
    shape = _take_apart(collection, leaves)

    def rebuild(values: list[Any]) -> Any:
        return shape(iter(values))

    return leaves, rebuild


def is_collection(given: Any) -> bool:
    """Whether `given` holds loaders, rather than being one: a list of batches is one.

    Dicts always do. Of a list or tuple every item has to look like a loader: something to iterate over that
    is no tensor, no text, and no list of tensors (which is a batch).
    """
    if isinstance(given, Mapping):
        return True
    if not isinstance(given, (list, tuple)) or not given:
        return False
    return all(_looks_like_loaders(item) for item in cast("Sequence[Any]", given))


def _looks_like_loaders(item: Any) -> bool:
    if isinstance(item, Mapping):
        return any(_looks_like_loaders(each) for each in cast("Mapping[Any, Any]", item).values())
    if isinstance(item, (list, tuple)):
        return not any(_is_value(each, tensors_only=True) for each in cast("Sequence[Any]", item))
    return hasattr(item, "__iter__") and not _is_value(item)


def _is_value(item: Any, tensors_only: bool = False) -> bool:
    if isinstance(item, (torch.Tensor, np.ndarray)):
        return True
    return not tensors_only and isinstance(item, (int, float, complex, str, bytes, type(None)))


def _take_apart(item: Any, leaves: list[Any]) -> Callable[[Any], Any]:
    """Append the loaders in `item` to `leaves`; returns how to build its like from an iterator of values."""
    if isinstance(item, Mapping) and item:
        mapping = cast("Mapping[Any, Any]", item)
        inside = {key: _take_apart(each, leaves) for key, each in mapping.items()}
        return lambda values: {key: build(values) for key, build in inside.items()}
    if isinstance(item, (list, tuple)) and item and not _is_leaf_list(cast("Sequence[Any]", item)):
        parts = [_take_apart(each, leaves) for each in cast("Sequence[Any]", item)]
        make = cast("Any", type(item))  # pyright: ignore[reportUnknownArgumentType]
        if make is list:
            return lambda values: [build(values) for build in parts]
        named = hasattr(make, "_fields")
        return lambda values: make(*(b(values) for b in parts)) if named else make([b(values) for b in parts])
    leaves.append(item)
    return next


def _is_leaf_list(items: Sequence[Any]) -> bool:
    return all(_is_value(item) for item in items) or any(_is_value(item, tensors_only=True) for item in items)
