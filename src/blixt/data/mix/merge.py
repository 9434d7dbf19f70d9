"""Put batches of several datasets together into one, leaf by leaf, in batch order."""

from typing import Any, cast

import numpy as np

from blixt.data.errors import DataError
from blixt.data.order import Int
from blixt.data.rows import Allocate
from blixt.data.schema import Structure


def merge(
    parts: list[Any],
    where: list[Int],
    count: int,
    allocate: Allocate = np.empty,
    structure: Structure | None = None,
    path: str = "",
) -> Any:
    """Return one batch of `count` rows from parts of it.

    Args:
        parts: the batches, all of one structure.
        where: the places of each part's rows in the result.
        count: how many rows the result has.
        allocate: gives the result's arrays their memory.
        structure: the tree of a sample, as a schema has it; tells a list of columns from a list of
            values. Without it, what has as many items as the batch has rows is taken for values.
        path: names the field in errors.

    Raises:
        DataError: when the parts differ in structure, naming the field.
    """
    first = parts[0]
    if isinstance(first, dict) or _is_node(parts, where, structure):
        keys = _keys(parts, path)
        of = None if structure is None else next(iter(structure.values()))
        children = {
            key: merge(
                [part[key] for part in parts],
                where,
                count,
                allocate,
                None if of is None else of[key],
                f"{path}.{key}" if path else str(key),
            )
            for key in keys
        }
        return children if isinstance(first, dict) else type(first)(children.values())
    if all(_stacks(part, first) for part in parts):
        stacked = allocate((count, *first.shape[1:]), first.dtype)
        for part, places in zip(parts, where, strict=True):
            stacked[places] = part
        return stacked
    merged: list[Any] = [None] * count
    for part, places in zip(parts, where, strict=True):
        if not _holds_values(part, len(places)):
            raise _differ(path, parts)
        for place, value in zip(places.tolist(), part, strict=True):
            merged[place] = value
    return merged


def _is_node(parts: list[Any], where: list[Int], structure: Structure | None) -> bool:
    """Whether a list or a tuple is part of the sample's tree, and not a list of values."""
    if structure is not None:
        return "leaf" not in structure
    if isinstance(parts[0], tuple):
        return True
    return isinstance(parts[0], list) and any(
        isinstance(part, list) and len(cast("list[Any]", part)) != len(at)
        for part, at in zip(parts, where, strict=True)
    )


def _keys(parts: list[Any], path: str) -> list[Any]:
    """Return the keys or places of a node's children."""
    names: list[list[Any]] = [
        list(cast("dict[Any, Any]", part)) if isinstance(part, dict) else [*range(len(part))]
        for part in parts
    ]
    first = parts[0]
    if any(type(part) is not type(first) for part in parts) or any(
        set(each) != set(names[0]) for each in names
    ):
        raise _differ(path, names)
    return names[0]


def _holds_values(part: Any, rows: int) -> bool:
    return isinstance(part, (list, np.ndarray)) and len(cast("list[Any]", part)) == rows


def _stacks(part: Any, first: Any) -> bool:
    """Whether both are arrays that fit into one."""
    if not isinstance(part, np.ndarray) or not isinstance(first, np.ndarray):
        return False
    one, other = cast("np.ndarray[Any, Any]", part), cast("np.ndarray[Any, Any]", first)
    return one.dtype == other.dtype and one.shape[1:] == other.shape[1:]


def _differ(path: str, parts: list[Any]) -> DataError:
    kinds = " or ".join(sorted({str(part)[:60] for part in parts}))
    return DataError(
        f"the datasets of this mix cannot share a batch: field {path or 'value'!r} is {kinds}; give "
        "them samples of "
        "one structure, or let each batch come from one dataset with group=batch_size"
    )
