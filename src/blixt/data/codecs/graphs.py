"""Graphs: named arrays, numbers and texts of one graph in one value."""

import json
import math
from importlib import import_module
from typing import Any, cast

import numpy as np

from blixt.data.codecs.arrays import (
    as_array,
    is_tensor,
    little_endian,
    native,
    storage_dtype,
    tensor_dtype,
    to_tensor,
)
from blixt.data.types import Graph

_HEADER_BYTES = 4
_DATA = "torch_geometric.data.Data"
_DTYPES = frozenset(
    (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "bfloat16", "float32", "float64", "complex64", "complex128"),
    )
)


class GraphCodec:
    """u32 length of a JSON header that lists the fields, the header, then the items of each array in turn."""

    name = "graph"

    def encode(self, value: Any) -> bytes:
        """Return the graph's bytes."""
        kind, fields = _fields(value.value if type(value) is Graph else value)
        entries: dict[str, Any] = {}
        parts: list[bytes] = []
        for name, field in fields.items():
            array = as_array(field)
            if array is None:
                entries[name] = {"json": field}
                continue
            dtype = tensor_dtype(field) if is_tensor(field) else array.dtype.name
            if dtype not in _DTYPES:
                raise ValueError(f"graph field {name!r}: cannot store dtype {dtype}")
            entries[name] = {"tensor": is_tensor(field), "dtype": dtype, "shape": list(array.shape)}
            parts.append(little_endian(array).tobytes())
        header = json.dumps({"kind": kind, "fields": entries}, allow_nan=False).encode()
        return b"".join([len(header).to_bytes(_HEADER_BYTES, "little"), header, *parts])

    def decode(self, stored: memoryview) -> Any:
        """Return the graph."""
        end = _HEADER_BYTES + int.from_bytes(stored[:_HEADER_BYTES], "little")
        header = json.loads(bytes(stored[_HEADER_BYTES:end]))
        fields: dict[str, Any] = {}
        for name, entry in header["fields"].items():
            if "json" in entry:
                fields[name] = entry["json"]
                continue
            fields[name], end = _array(stored, entry, end)
        if end != len(stored):
            raise ValueError(f"a graph of {len(stored)} bytes ends at byte {end}")
        return _geometric(fields) if header["kind"] == _DATA else fields


def _fields(graph: Any) -> tuple[str, dict[str, Any]]:
    if is_geometric(graph):
        return _DATA, graph.to_dict()
    if isinstance(graph, dict):
        return "dict", cast("dict[str, Any]", graph)
    raise TypeError(f"expected Graph(...) or a torch_geometric Data, got {type(graph).__name__}")


def is_geometric(value: Any) -> bool:
    """Whether something is a `torch_geometric.data.Data`, asked without importing it."""
    return f"{type(value).__module__}.{type(value).__name__}" == "torch_geometric.data.data.Data"


def _array(stored: memoryview, entry: dict[str, Any], start: int) -> tuple[Any, int]:
    if entry["dtype"] not in _DTYPES:
        raise ValueError(f"unknown dtype {entry['dtype']!r:.40}")
    dtype, shape = storage_dtype(entry["dtype"]), entry["shape"]
    end = start + math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or not start <= end <= len(stored):
        raise ValueError(f"an array of shape {shape} does not fit its {len(stored)} bytes")
    array = native(np.frombuffer(stored[start:end], dtype.newbyteorder("<")).reshape(shape)).copy()
    return (to_tensor(array, entry["dtype"]) if entry["tensor"] else array), end


def _geometric(fields: dict[str, Any]) -> Any:
    try:
        data: Any = import_module("torch_geometric.data")
    except ImportError:
        return fields
    return data.Data.from_dict(fields)
