"""Graphs of torch_geometric: their tensors by name, and the tree that held them."""

import pickle
import struct
from importlib import import_module
from typing import Any, cast

import numpy as np
import torch

from blixt.compat.litdata.core.media import GRAPH_FIELDS, Graph, Tensor
from blixt.compat.litdata.core.serializers.arrays import TensorSerializer, as_tensor
from blixt.compat.litdata.core.serializers.base import Serialized, Serializer
from blixt.data.foreign.leaves import plain_pickle
from blixt.data.foreign.litdata.graph import MAGIC, TENSOR_MARK, read_graph

Path = tuple[Any, ...]
_VERSION, _TENSOR, _PICKLE = 3, 0, 1
_NESTED = (list, tuple, set)


class GraphSerializer(Serializer):
    """A graph: magic, u8 version, u16 count; for each field its name (u16), kind (u8) and payload (u32).

    The last field is a pickle of plain values, which says where in the tree each tensor was; it is read
    without running any code. A graph that is no tree of tensors is refused, where LitData pickles it whole.
    """

    def serialize(self, data: Any) -> Serialized:
        """Return the bytes, and the name of the format where it says more."""
        mapping, kind = _mapping(data)
        tensors: dict[Path, Any] = {}
        tree = _take_tensors(mapping, (), tensors)
        if not tensors or not _is_tree(mapping):
            raise TypeError(
                "a graph must be dicts of tensors and plain values; LitData would pickle this one"
            )
        paths = list(tensors)
        names = [".".join(map(_name, path)) for path in paths]
        if len(set(names)) != len(names):
            names = [f"t{number}" for number in range(len(paths))]
        meta = {"_cls": kind, "_tree": tree, "_paths": paths, "_fields": names}
        tensor = TensorSerializer()
        fields = [
            _field(name, _TENSOR, tensor.serialize(as_tensor(tensors[path]).cpu().contiguous())[0])
            for name, path in zip(names, paths, strict=True)
        ]
        fields.append(_field("_meta", _PICKLE, pickle.dumps(meta)))
        return MAGIC + struct.pack(">BH", _VERSION, len(fields)) + b"".join(fields), "graph"

    def deserialize(self, data: bytes) -> Any:
        """Return the value."""
        mapping, kind = read_graph(bytes(data), plain_pickle)
        mapping = _with_tensors(mapping)
        try:
            module: Any = import_module("torch_geometric.data")
        except ImportError:
            if kind == "hetero":
                return Graph(data=mapping)
            known = {name: mapping.pop(name) for name in GRAPH_FIELDS if name in mapping}
            return Graph(**known, data=mapping or None)
        return (module.HeteroData if kind == "hetero" else module.Data).from_dict(mapping)

    def can_serialize(self, data: Any) -> bool:
        """Whether a value is of this kind."""
        return isinstance(data, Graph) or _is_geometric(data)


def _is_geometric(data: Any) -> bool:
    return type(data).__module__.startswith("torch_geometric.data") and hasattr(data, "to_dict")


def _mapping(data: Any) -> tuple[dict[Any, Any], str]:
    if isinstance(data, Graph):
        mapping = data.to_mapping()
        whole = data.data if _is_geometric(data.data) else None
        nested = whole is None and any(map(_holds_tensors, mapping.values()))
        return mapping, "hetero" if nested or type(whole).__name__ == "HeteroData" else "data"
    if not _is_geometric(data):
        raise TypeError(f"Cannot pack graph from {type(data)}")
    return dict(data.to_dict()), "hetero" if type(data).__name__ == "HeteroData" else "data"


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, dict) and any(map(_is_tensor, cast("dict[Any, Any]", value).values()))


def _is_tensor(value: Any) -> bool:
    return isinstance(value, (Tensor, torch.Tensor, np.ndarray))


def _take_tensors(node: Any, path: Path, tensors: dict[Path, Any]) -> Any:
    """Return the tree with a mark in place of each tensor; collect the tensors by path."""
    if _is_tensor(node):
        tensors[path] = node
        return TENSOR_MARK
    if isinstance(node, dict):
        fields = cast("dict[Any, Any]", node)
        return {key: _take_tensors(child, (*path, key), tensors) for key, child in fields.items()}
    return node


def _is_tree(node: Any) -> bool:
    if isinstance(node, dict):
        return all(map(_is_tree, cast("dict[Any, Any]", node).values()))
    return not isinstance(node, _NESTED)


def _name(key: Any) -> str:
    return "__".join(map(str, cast("Path", key))) if isinstance(key, tuple) else str(key)


def _field(name: str, kind: int, payload: bytes) -> bytes:
    encoded = name.encode()
    return b"".join(
        (struct.pack(">H", len(encoded)), encoded, struct.pack(">BI", kind, len(payload)), payload)
    )


def _with_tensors(node: Any) -> Any:
    """Return the tree with its arrays as tensors of their own memory."""
    if isinstance(node, dict):
        return {key: _with_tensors(child) for key, child in cast("dict[Any, Any]", node).items()}
    return as_tensor(cast("np.ndarray[Any, Any]", node).copy()) if isinstance(node, np.ndarray) else node
