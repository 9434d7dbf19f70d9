"""Put batches of several datasets together into one, leaf by leaf, in batch order."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from blixt.data.errors import DataError
from blixt.data.order import Int
from blixt.data.rows import Allocate


def merge(
    parts: list[Any], where: list[Int], count: int, allocate: Allocate = np.empty, path: str = ""
) -> Any:
    """Return one batch of `count` rows from parts of it.

    Args:
        parts: the batches, all of one structure.
        where: the places of each part's rows in the result.
        count: how many rows the result has.
        allocate: gives the result's arrays their memory.
        path: names the field in errors.

    Raises:
        DataError: when the parts differ in structure, naming the field.
    """
    first = parts[0]
    if isinstance(first, dict):
        fields = cast("dict[str, Any]", first)
        if any(not isinstance(part, dict) or part.keys() != fields.keys() for part in parts):
            raise _differ(path, [sorted(part) if isinstance(part, dict) else part for part in parts])
        return {
            key: merge(
                [part[key] for part in parts], where, count, allocate, f"{path}.{key}" if path else key
            )
            for key in fields
        }
    if isinstance(first, tuple):
        items = cast("tuple[Any, ...]", first)
        if any(not isinstance(part, tuple) or len(cast("Any", part)) != len(items) for part in parts):
            raise _differ(path, parts)
        each = zip(*parts, strict=True)
        return tuple(
            merge(list(group), where, count, allocate, f"{path}.{i}") for i, group in enumerate(each)
        )
    if all(_stacks(part, first) for part in parts):
        stacked = allocate((count, *first.shape[1:]), first.dtype)
        _place(stacked.__setitem__, parts, where, whole=True)
        return stacked
    if not all(
        isinstance(part, (list, np.ndarray)) and len(part) == len(at) for part, at in zip(parts, where)
    ):
        raise _differ(path, parts)
    merged: list[Any] = [None] * count
    _place(merged.__setitem__, parts, where, whole=False)
    return merged


def _stacks(part: Any, first: Any) -> bool:
    """Whether both are arrays that fit into one."""
    return (
        isinstance(part, np.ndarray)
        and isinstance(first, np.ndarray)
        and part.dtype == first.dtype
        and part.shape[1:] == first.shape[1:]
    )


def _place(put: Callable[[Any, Any], Any], parts: list[Any], where: list[Int], *, whole: bool) -> None:
    for part, places in zip(parts, where, strict=True):
        if whole:
            put(places, part)
        else:
            for place, value in zip(places.tolist(), part, strict=True):
                put(place, value)


def _differ(path: str, parts: list[Any]) -> DataError:
    kinds = ", ".join(
        sorted({str(part) if isinstance(part, list) else type(part).__name__ for part in parts})
    )
    return DataError(
        f"the datasets of this mix cannot share a batch: field {path or 'value'!r} is {kinds}; give "
        "them samples of "
        "one structure, or let each batch come from one dataset with group=batch_size"
    )
