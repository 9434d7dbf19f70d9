"""Long arrays, such as tracks over time, of which windows of frames are read."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from blixt.compat.litdata.core.loaders import BaseItemLoader
from blixt.data import Dataset, Rows, Subset
from blixt.data.codecs.arrays import storage_dtype, to_tensor
from blixt.data.foreign.litdata.source import LitDataSource
from blixt.data.foreign.rows import ForeignDataset
from blixt.data.schema import Column
from blixt.data.shard.read import ShardReader

_NUMBER = 8


class TemporalArrayLoader(BaseItemLoader):
    """Samples are flat dicts of arrays that agree in their first side, the frames.

    Args:
        field_groups: which fields LitData lays side by side; here each field is stored by itself.

    Raises:
        ValueError: when they are no groups of names.
    """

    def __init__(self, field_groups: Sequence[Sequence[str]] | None = None) -> None:
        self.field_groups = [list(group) for group in field_groups or ()]
        names = [name for group in self.field_groups for name in group]
        is_text = any(isinstance(group, str) or not group for group in field_groups or ())
        if is_text or not all(names) or len(set(names)) != len(names):
            raise ValueError("field_groups must contain nonempty groups of distinct field names.")

    def check(self, record: Any) -> None:
        """See that a sample is such a record.

        Raises:
            ValueError: when it is not.
        """
        if not isinstance(record, Mapping) or not record:
            raise ValueError("TemporalArrayLoader expects a nonempty dictionary of arrays.")
        fields = cast("Mapping[str, Any]", record)
        shapes: dict[str, tuple[int, ...]] = {
            name: tuple(getattr(value, "shape", ())) for name, value in fields.items()
        }
        if not all(shape and min(shape) >= 1 for shape in shapes.values()):
            raise ValueError("Temporal fields require nonempty fixed-width numeric/bool arrays.")
        if len({shape[0] for shape in shapes.values()}) != 1:
            raise ValueError("All temporal fields must share the frame axis.")
        unknown = {name for group in self.field_groups for name in group} - fields.keys()
        if unknown:
            raise ValueError(f"Unknown grouped fields: {sorted(unknown)}")


def frame_counts(rows: Rows[Any]) -> list[int]:
    """Return how many frames each record has, from what says where records begin and end."""
    source, numbers = _source(rows, range(len(rows)))
    if isinstance(source, Dataset):
        column = _arrays_of(source)[0]
        counts = np.concatenate([_frames(source.shards[n], column) for n in range(len(source.shards))])
        return counts[numbers].tolist()
    reader, ends = _litdata(source)
    if reader is None or reader.temporal is None:
        raise ValueError("frame_counts requires data written with TemporalArrayLoader.")
    places = ((bisect_right(ends, row) - 1, row) for row in numbers)
    return [reader.temporal.frames(reader.record(part, row - ends[part])) for part, row in places]


def read_window(
    rows: Rows[Any], sample: Any, index: int, start: int, frames: int, fields: Sequence[str] | None
) -> dict[str, Any]:
    """Return fields (all when None) of a record at the frames `[start, start + frames)`.

    Args:
        rows: the records.
        sample: returns a whole sample by its number, where there is no shorter way.
        index: the record.
        start: its first frame that is wanted.
        frames: how many.
        fields: their names.

    Raises:
        IndexError: when the window does not lie within the record.
        ValueError: when there is no such field.
    """
    source, (row,) = _source(rows, [index])
    if isinstance(source, Dataset):
        return _window(source, row, start, start + frames, fields)
    reader, ends = _litdata(source)
    if reader is None or reader.temporal is None:
        whole = sample(index)
        _check(frames=len(next(iter(whole.values()))), stop=start + frames)
        return {name: _copy(whole[name][start : start + frames]) for name in _known(fields, list(whole))}
    layout, part = reader.temporal, bisect_right(ends, row) - 1
    record = reader.record(part, row - ends[part])
    _check(frames=layout.frames(record), stop=start + frames)
    found = layout.window(record, start, start + frames, _known(fields, layout.fields))
    reader.confirm()
    return {name: _as_stored(value, name in layout.tensors) for name, value in found.items()}


def _window(
    dataset: Dataset, row: int, start: int, stop: int, fields: Sequence[str] | None
) -> dict[str, Any]:
    shards = dataset.shards
    number = int(np.searchsorted(shards.first_row, row, "right")) - 1
    local = np.array([row - int(shards.first_row[number])])
    shards.ensure([(number, local)])
    reader, columns = shards[number], {column.name: column for column in _arrays_of(dataset)}
    found: dict[str, Any] = {}
    for name in _known(fields, list(columns)):
        column = columns[name]
        [stored] = reader.views(name, local)
        shape = _shape(stored)
        _check(frames=shape[0], stop=stop)
        dtype = storage_dtype(str(column.dtype)).newbyteorder("<")
        values = np.frombuffer(stored, dtype, offset=_NUMBER * (1 + len(shape))).reshape(shape)[start:stop]
        array = values.astype(dtype.newbyteorder("="))
        found[name] = to_tensor(array, str(column.dtype)) if column.type == "tensor" else array
    reader.confirm()
    return found


def _arrays_of(dataset: Dataset) -> list[Column]:
    columns = dataset.shards.snapshot.schema.columns
    if any(column.kind != "variable" or column.type not in ("array", "tensor") for column in columns):
        raise ValueError("frame_counts and read_window require flat records of arrays.")
    return list(columns)


def _frames(reader: ShardReader, column: Column) -> np.ndarray[Any, Any]:
    sizes = reader.value_sizes(column.name)
    if not len(sizes):
        return sizes
    shape = _shape(reader.views(column.name, np.array([0]))[0])
    frame_bytes = storage_dtype(str(column.dtype)).itemsize * int(np.prod(shape[1:]))
    return (sizes - _NUMBER * (1 + len(shape))) // frame_bytes


def _shape(stored: memoryview) -> tuple[int, ...]:
    sides = int.from_bytes(stored[:_NUMBER], "little")
    return tuple(np.frombuffer(stored, "<u8", sides, _NUMBER).tolist())


def _source(rows: Any, numbers: Sequence[int]) -> tuple[Any, list[int]]:
    """Return the dataset below subsets, and the numbers that rows have there."""
    found = list(numbers)
    while isinstance(rows, Subset):
        part = cast("Subset[Any]", rows)
        found = [part.in_source(row) for row in found]
        rows = part.source
    return rows, found


def _litdata(source: Any) -> tuple[LitDataSource | None, list[int]]:
    if not isinstance(source, ForeignDataset) or not isinstance(source.source, LitDataSource):
        return None, []
    return source.source, np.cumsum([0, *source.source.part_rows]).tolist()


def _known(fields: Sequence[str] | None, there: list[str]) -> list[str]:
    unknown = set(fields or ()) - set(there)
    if unknown:
        raise ValueError(f"Unknown fields: {sorted(unknown)}; there is {', '.join(there)}")
    return there if fields is None else list(fields)


def _check(*, frames: int, stop: int) -> None:
    if stop > frames:
        raise IndexError(f"a window that ends at frame {stop} is out of range: the record has {frames}")


def _copy(values: Any) -> Any:
    return values.clone() if hasattr(values, "clone") else values.copy()


def _as_stored(array: np.ndarray[Any, Any], is_tensor: bool) -> Any:
    return to_tensor(array, array.dtype.name) if is_tensor else array
