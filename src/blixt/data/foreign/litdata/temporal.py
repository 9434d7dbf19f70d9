"""LitData's records of `TemporalArrayLoader`: u32 frames, then for each group of fields its frames.

A frame of a group is a C structure of the group's fields, aligned as a compiler would; the index says which
fields, of which types and shapes, are in which group. So a window of frames is one range of each group.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from blixt.data.errors import FormatError


class Temporal:
    """The layout that an index describes.

    Args:
        schema: its `temporal_schema`.

    Raises:
        FormatError: when it makes no sense.
    """

    def __init__(self, schema: Any) -> None:
        try:
            if schema["version"] != 1:
                raise ValueError(f"version {schema['version']} is not known")
            self.fields = [str(name) for name in schema["field_order"]]
            self._groups = [_frame(group, schema["fields"]) for group in schema["groups"]]
            held = [name for group in self._groups for name in cast("tuple[str, ...]", group.names)]
            if sorted(held) != sorted(self.fields):
                raise ValueError("its groups do not hold its fields")
            self.tensors = {name for name in self.fields if schema["fields"][name]["tensor"]}
        except (KeyError, TypeError, ValueError) as problem:
            raise FormatError(f"temporal_schema in index.json is damaged: {problem!r}") from None

    def frames(self, record: memoryview) -> int:
        """Return how many frames a record has.

        Raises:
            FormatError: when its length is another.
        """
        (frames,) = struct.unpack_from("<I", record)
        if len(record) != 4 + frames * sum(group.itemsize for group in self._groups):
            raise FormatError("a record is damaged: its length does not fit its frames")
        return frames

    def window(
        self, record: memoryview, start: int = 0, stop: int | None = None, fields: Sequence[str] | None = None
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Return fields (all when None) at the frames `[start, stop)`, as arrays of their own."""
        frames = self.frames(record)
        stop = frames if stop is None else stop
        found: dict[str, np.ndarray[Any, Any]] = {}
        at = 4
        for group in self._groups:
            rows = np.frombuffer(record, group, frames, at)[start:stop]
            at += frames * group.itemsize
            names = cast("tuple[str, ...]", group.names)
            found.update({name: rows[name].copy() for name in names if fields is None or name in fields})
        return {name: found[name] for name in (self.fields if fields is None else fields)}


def _frame(group: list[str], fields: Mapping[str, Any]) -> np.dtype[Any]:
    kinds = [(name, np.dtype(fields[name]["dtype"]), tuple(fields[name]["shape"])) for name in group]
    if any(dtype.kind not in "biufc" for _, dtype, _ in kinds):
        raise ValueError("a field is no number")
    return np.dtype(kinds, align=True)
