"""Whatever holds inputs, as units: lists, datasets, readers, generators, queues, loaders."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set, ValuesView
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np

from blixt.data.build.readers import Grouped, IndexedReader
from blixt.data.build.units import (
    ListedUnits,
    Reader,
    ReadUnits,
    StreamedUnits,
    Units,
    borders_at,
    borders_by_count,
    borders_by_weight,
)
from blixt.data.errors import BuildError

_UNITS_PER_WORKER = 8
_MAX_UNIT_INPUTS = 4096
_STREAMED_UNIT_INPUTS = 256
_DEV_RUN_INPUTS = 10


class AllDone:
    """The type of `ALL_DONE`, which is one object in every process."""

    def __reduce__(self) -> str:
        return "ALL_DONE"

    def __repr__(self) -> str:
        return "ALL_DONE"


ALL_DONE = AllDone()
"""Put it into a queue of inputs after the last one."""


@dataclass(frozen=True, slots=True)
class Cutting:
    """How inputs are cut into units.

    Attributes:
        workers: how many processes share the units, on all machines.
        unit_size: inputs per unit; None chooses.
        weights: of each input, for units of equal weight.
        batch_size: inputs that make one call of the function.
        fast_dev_run: True for the first ten inputs only, a number for so many.
        reorder_files: begin with the largest files.
        align: unit sizes are multiples of this.
        travels: whether the inputs must reach another process.
        planned: whether all units must be known from the beginning.
    """

    workers: int
    unit_size: int | None = None
    weights: Sequence[float] | None = None
    batch_size: int | None = None
    fast_dev_run: bool | int = False
    reorder_files: bool = False
    align: int = 1
    travels: bool = True
    planned: bool = False


def unit_size_for(inputs: Any, cutting: Cutting) -> int:
    """Return how many inputs a unit gets: about eight units per worker, unless the call says it."""
    if cutting.unit_size is not None:
        return cutting.unit_size
    try:
        count = min(len(inputs), _dev_inputs(cutting) or len(inputs))
    except TypeError:
        return _STREAMED_UNIT_INPUTS
    count = -(-count // (cutting.batch_size or 1))
    size = min(-(-count // (max(cutting.workers, 1) * _UNITS_PER_WORKER)), _MAX_UNIT_INPUTS)
    return max(1, -(-size // cutting.align) * cutting.align)


def prepared(inputs: Any, cutting: Cutting) -> Any:
    """Return the inputs as a sequence, a reader, or an iterable of which nobody knows the length.

    Raises:
        BuildError: when they are none, or machines are to share what only one can have, such as a queue.
    """
    if _is_queue(inputs):
        if cutting.planned:
            raise BuildError("a queue belongs to one machine: drain it into a list before machines share it")
        return _drain(inputs)
    if isinstance(inputs, (str, bytes, Path)):
        raise BuildError(
            f"the inputs are one text, {inputs!r:.80}; pass a list, or list_files(...) for a folder's files"
        )
    if isinstance(inputs, Sequence) or _is_reader(inputs):
        return cast("Any", inputs)
    if isinstance(inputs, np.ndarray):
        return list(cast("Iterable[Any]", inputs))
    if isinstance(inputs, (Set, ValuesView)):
        return list(cast("Iterable[Any]", inputs))
    if hasattr(inputs, "__getitem__") and hasattr(inputs, "__len__") and not isinstance(inputs, Mapping):
        return IndexedReader(inputs)
    if isinstance(inputs, Mapping):
        raise BuildError("the inputs are a dict; pass list(inputs.items()) or whichever part of it you mean")
    if not isinstance(inputs, Iterable):
        raise BuildError(
            f"the inputs are of type {type(inputs).__name__}, which cannot be gone through; pass a list, a "
            "dataset, a generator or a queue"
        )
    return list(cast("Iterable[Any]", inputs)) if cutting.planned else cast("Any", inputs)


def units_of(inputs: Any, cutting: Cutting, unit_size: int) -> Units:
    """Cut prepared inputs.

    Raises:
        BuildError: when there are no inputs.
        ValueError: when weights do not fit the inputs.
    """
    limit = _dev_inputs(cutting)
    if not _is_planned(inputs):
        _refuse_weights(cutting, "inputs of unknown number")
        stream: Iterable[Any] = islice(inputs, limit) if limit else inputs
        stream = _batches(stream, cutting.batch_size) if cutting.batch_size else stream
        total = len(inputs) if stream is inputs and hasattr(inputs, "__len__") else None
        return StreamedUnits(stream, unit_size, cutting.travels, total)
    total = min(len(inputs), limit or len(inputs))
    if not total:
        raise BuildError("there are no inputs, so there is nothing to write")
    if _is_reader(inputs):
        return _reader_units(inputs, total, cutting, unit_size)
    items: Sequence[Any] = inputs[:total]
    weights = cutting.weights
    if weights is not None and len(weights) != len(inputs):
        raise ValueError(f"there are {len(weights)} weights for {len(inputs)} inputs; give one for each")
    weights = None if weights is None else weights[:total]
    if cutting.reorder_files:
        order = _largest_first(items)
        items = [items[index] for index in order]
        weights = None if weights is None else [weights[index] for index in order]
    if cutting.batch_size:
        size = cutting.batch_size
        items = [list(items[first : first + size]) for first in range(0, total, size)]
        if weights is not None:
            weights = [sum(weights[first : first + size]) for first in range(0, total, size)]
    return ListedUnits(items, _borders(len(items), weights, unit_size), cutting.travels)


def _reader_units(reader: Reader, total: int, cutting: Cutting, unit_size: int) -> Units:
    _refuse_weights(cutting, "what a reader reads")
    if cutting.batch_size:
        grouped = Grouped(reader, cutting.batch_size, total)
        return ReadUnits(grouped, borders_by_count(len(grouped), unit_size))
    cuts = [cut for cut in getattr(reader, "cuts", ()) if cut < total]
    return ReadUnits(
        reader, borders_at([*cuts, total], unit_size) if cuts else borders_by_count(total, unit_size)
    )


def _borders(total: int, weights: Sequence[float] | None, unit_size: int) -> list[int]:
    if weights is None:
        return borders_by_count(total, unit_size)
    if not all(weight > 0 for weight in weights):
        raise ValueError("every weight must be positive")
    return borders_by_weight(weights, -(-total // unit_size))


def _refuse_weights(cutting: Cutting, what: str) -> None:
    if cutting.weights is not None or cutting.reorder_files:
        raise ValueError(f"weights and reorder_files need a list of inputs, and these are {what}")


def _dev_inputs(cutting: Cutting) -> int:
    return _DEV_RUN_INPUTS if cutting.fast_dev_run is True else int(cutting.fast_dev_run)


def _is_reader(inputs: Any) -> bool:
    return all(hasattr(inputs, name) for name in ("read", "identity", "__len__"))


def _is_planned(inputs: Any) -> bool:
    return isinstance(inputs, Sequence) or _is_reader(inputs)


def _is_queue(inputs: Any) -> bool:
    return hasattr(inputs, "get") and hasattr(inputs, "put") and not hasattr(inputs, "__iter__")


def _drain(inputs: Any) -> Iterator[Any]:
    get: Callable[[], Any] = inputs.get
    while (item := get()) is not ALL_DONE:
        yield item


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _largest_first(items: Sequence[Any]) -> list[int]:
    sizes = [_file_size(item) for item in items]
    return sorted(range(len(items)), key=lambda index: -sizes[index])


def _file_size(item: Any) -> int:
    try:
        return os.path.getsize(item)
    except (OSError, TypeError, ValueError):
        return 0
