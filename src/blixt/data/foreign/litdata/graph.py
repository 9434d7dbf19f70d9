"""LitData's `graph` leaves: tensors by name, and a pickled tree of plain values that says where each was."""

import struct
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from blixt.data.foreign.litdata.arrays import array_of

MAGIC = b"LDGR"
TENSOR_MARK = "__ldgr_t__"
"""What stands in the tree where a tensor was."""


def read_graph(data: bytes, unpickle: Callable[[bytes], Any]) -> tuple[dict[Any, Any], str]:
    """Read a leaf (big-endian: version, count; for each field its name, kind and payload).

    Args:
        data: the leaf, which begins with `MAGIC`.
        unpickle: reads the tree.

    Returns:
        The graph's fields, and its kind: `data`, or `hetero` where they are nested.
    """
    version = data[4]
    number = struct.Struct(">H" if version >= 3 else ">B")
    count = number.unpack_from(data, 5)[0]
    at = 5 + number.size
    fields: dict[str, np.ndarray[Any, Any]] = {}
    meta: dict[str, Any] = {}
    for _ in range(count):
        name_end = at + number.size + number.unpack_from(data, at)[0]
        name = data[at + number.size : name_end].decode()
        at = name_end + (1 if version >= 2 else 0)  # version 1 has no kind: tensors only
        start = at + 4
        payload = data[start : start + struct.unpack_from(">I", data, at)[0]]
        if name == "_meta":
            meta = unpickle(payload)
        else:
            fields[name] = array_of("tensor", payload)
        at = start + len(payload)
    kind = str(meta.get("_cls", "data"))
    if "_tree" not in meta:
        return cast("dict[Any, Any]", fields), kind
    tensors = dict(zip(meta["_paths"], (fields[name] for name in meta["_fields"]), strict=True))
    return _filled(meta["_tree"], tensors, ()), kind


def _filled(tree: Any, tensors: Mapping[tuple[Any, ...], Any], path: tuple[Any, ...]) -> Any:
    if isinstance(tree, dict):
        nodes = cast("dict[Any, Any]", tree)
        return {key: _filled(child, tensors, (*path, key)) for key, child in nodes.items()}
    return tensors.get(path, tree)
