"""One batch from many shards: its columns in the order of the rows, in memory that the caller gives."""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import pairwise
from typing import Any, Protocol, cast

import numpy as np

from blixt.data.codecs import ALWAYS_DECODED, JpegCodec, codec_for
from blixt.data.codecs.arrays import storage_dtype
from blixt.data.decode import Decode, finish_batch
from blixt.data.loader.collate import stack
from blixt.data.order import Int
from blixt.data.recycle import recycled
from blixt.data.rows import Allocate
from blixt.data.schema import Column, Schema, unflatten
from blixt.data.together import Due, InPlace, Mapped, Places, places, unchecked
from blixt.data.together import Part as InPlacePart

_IMAGES = frozenset(("jpeg", "png", "tiff", "image"))
_NARROW_BYTES = 64
_LEAST_ROWS, _MOST_SHARDS = 8, 64
"""Batches are looked up together where each shard has so many of their rows, in at most so many shards."""
Part = tuple[int, Int, Int]
"""A shard's number, rows within it, and their places in the batch."""


class Images(Protocol):
    """A codec whose values are arrays that can be decoded in place."""

    def shape(self, stored: memoryview) -> tuple[int, ...]:
        """Return the shape of the decoded image."""
        ...

    def decode(self, stored: memoryview) -> Any:
        """Return the image."""
        ...

    def decode_into(self, stored: memoryview, out: Any) -> None:
        """Decode into an array of the image's shape."""
        ...


class Reader(InPlace, Protocol):
    """What is asked of a shard's reader."""

    def gather(self, name: str, rows: Int) -> Any:
        """Return a column's values."""
        ...

    def views(self, name: str, rows: Int) -> list[memoryview]:
        """Return the stored bytes of a variable column's values, in place."""
        ...


class ShardsOf(Protocol):
    """The shards of a dataset by number."""

    @property
    def first_row(self) -> Any:
        """The first row of each shard, and the end of the last."""
        ...

    def __getitem__(self, number: int) -> Reader: ...

    def mapped(self, parts: list[tuple[int, Int]], columns: list[str]) -> Mapped | None:
        """Return the shards once it is known where the rows' values lie; None where they are packed."""
        ...

    def ensure(self, parts: list[tuple[int, Int]]) -> None:
        """Return when the rows' bytes are here, having fetched what lacks in all shards at once."""
        ...


class Gather:
    """Batches of a dataset, its columns looked at once.

    Args:
        shards: the dataset's shards.
        schema: its columns.
        decode: which media columns are decoded; images of one size are decoded straight into the batch.
    """

    def __init__(self, shards: ShardsOf, schema: Schema, decode: Decode = True) -> None:
        self._shards, self._schema = shards, schema
        self._starts = np.array(shards.first_row, np.int64)
        self._names = [column.name for column in schema.columns]
        self._images = {
            column.name: codec
            for column in schema.columns
            if (codec := _image_codec(column, decode)) is not None
        }
        self._bytes = {column.name for column in schema.columns if _is_bytes(column, decode)}
        self._as_stored = bool(self._bytes) and all(
            column.name in self._bytes or _is_narrow(column) for column in schema.columns
        )

    def batch(self, rows: Int, allocate: Allocate = np.empty, *, views: bool = False) -> Any:
        """Return the rows as one batch: the sample's tree with stacked arrays, or lists where sizes differ.

        Args:
            rows: row numbers of the dataset.
            allocate: gives the arrays of the batch their memory.
            views: give memoryviews in place of bytes; they hold on to their shard.
        """
        parts = self.parts(rows)
        self._shards.ensure([(number, local) for number, local, _ in parts])
        leaves = {
            column.name: self._column(column, parts, len(rows), allocate, views)
            for column in self._schema.columns
        }
        return self._finished(leaves)

    def batches(self, rows: Int, size: int) -> Iterator[Any] | None:
        """Yield each `size` of the rows as a batch with `Stored` bytes, looked up together: far fewer steps.

        The values' blocks are fetched only when their batch is asked for, and checked when it is copied. None
        when something has to be decoded or unpacked, which is better done batch by batch; so are those that
        are left where it ends early.

        Raises:
            DataError: when a row cannot be found.
        """
        if not self._as_stored:
            return None
        parts = self.parts(rows)
        if len(parts) > min(_MOST_SHARDS, len(rows) // _LEAST_ROWS):
            return None
        mapped = self._shards.mapped([(number, local) for number, local, _ in parts], self._names)
        if mapped is None:
            return None
        found = [
            InPlacePart(reader, local, at, reader.blocks(local))
            for reader, (_, local, at) in zip(mapped.readers, parts, strict=True)
        ]
        leaves = {
            column.name: places(column.name, found, len(rows))
            if column.name in self._bytes
            else self._column(column, parts, len(rows), np.empty, views=True)
            for column in self._schema.columns
        }
        starts = range(0, len(rows), size)
        return self._brought(leaves, mapped, Due(mapped, unchecked(found, starts)), starts)

    def _brought(self, leaves: dict[str, Any], mapped: Mapped, due: Due, starts: range) -> Iterator[Any]:
        for number, low in enumerate(starts):
            if not mapped.is_current:
                return
            due.bring(number)
            high, check = low + starts.step, partial(due.check, number)
            yield self._finished({name: _cut(values, low, high, check) for name, values in leaves.items()})

    def _finished(self, leaves: dict[str, Any]) -> Any:
        return unflatten(self._schema.structure, finish_batch(self._schema, leaves))

    def parts(self, rows: Int) -> list[Part]:
        """Group rows by shard, in the order of first use."""
        shard_of = np.searchsorted(self._starts, rows, "right") - 1
        by_shard = np.argsort(shard_of, kind="stable")
        ranked = shard_of[by_shard]
        cuts: list[int] = (np.flatnonzero(ranked[1:] != ranked[:-1]) + 1).tolist()
        places = [by_shard[low:high] for low, high in pairwise((0, *cuts, len(rows))) if low < high]
        places.sort(key=lambda at: int(at[0]))
        numbers = [int(shard_of[at[0]]) for at in places]
        return [(n, rows[at] - self._starts[n], at) for n, at in zip(numbers, places, strict=True)]

    def _column(self, column: Column, parts: list[Part], count: int, allocate: Allocate, views: bool) -> Any:
        name = column.name
        if name in self._images:
            stored = self._listed([(self._shards[n].views(name, local), at) for n, local, at in parts], count)
            return _decode(self._images[name], stored, recycled if allocate is np.empty else allocate)
        if views and name in self._bytes:
            return self._listed([(self._shards[n].views(name, local), at) for n, local, at in parts], count)
        values = [(self._shards[n].gather(name, local), at) for n, local, at in parts]
        if column.kind != "fixed":
            return self._listed(values, count)
        first = values[0][0]
        out = (
            first
            if count == len(first) and allocate is np.empty
            else allocate((count, *first.shape[1:]), first.dtype)
        )
        if out is not first:
            for part, at in values:
                out[at] = part
        return out

    def _listed(self, values: list[tuple[list[Any], Int]], count: int) -> list[Any]:
        if len(values) == 1:
            return values[0][0]
        merged: list[Any] = [None] * count
        for part, at in values:
            for value, place in zip(part, at.tolist(), strict=True):
                merged[place] = value
        return merged


def _cut(values: Any, low: int, high: int, check: Callable[[], None]) -> Any:
    """Return some of a column's values; arrays get memory of their own, so that none keeps the others."""
    return values.part(low, high, check) if isinstance(values, Places) else values[low:high].copy()


def _decode(codec: Images, stored: list[memoryview], allocate: Allocate) -> Any:
    """Decode images of one shape into one array, others into a list of arrays."""
    if not isinstance(codec, JpegCodec):
        return stack([codec.decode(view) for view in stored], allocate)
    shapes = {codec.shape(view) for view in stored}
    if len(shapes) != 1:
        return [codec.decode(view) for view in stored]
    out = allocate((len(stored), *next(iter(shapes))), np.uint8)
    for view, place in zip(stored, out, strict=True):
        codec.decode_into(view, place)
    return out


def _wanted(column: Column, decode: Decode) -> bool:
    return decode.get(column.name, True) if isinstance(decode, Mapping) else decode


def _image_codec(column: Column, decode: Decode) -> Images | None:
    if column.kind != "variable" or not _wanted(column, decode):
        return None
    if column.type not in _IMAGES:
        return None
    return cast("Images", codec_for(column.type, column.dtype))


def _is_narrow(column: Column) -> bool:
    """Whether the column's values take next to nothing beside stored bytes."""
    if column.kind != "fixed":
        return False
    return storage_dtype(str(column.dtype)).itemsize * math.prod(column.shape) <= _NARROW_BYTES


def _is_bytes(column: Column, decode: Decode) -> bool:
    """Whether the batch holds the stored bytes of the column as they are."""
    if column.kind != "variable":
        return False
    return column.type == "bytes" or not (_wanted(column, decode) or column.type in ALWAYS_DECODED)
