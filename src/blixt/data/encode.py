"""The fast path from a sample to stored values, compiled once from the schema."""

import struct
from collections.abc import Callable, Sized
from typing import Any, cast

import numpy as np

from blixt.data.codecs import USER, codec_for
from blixt.data.codecs.arrays import as_array, is_tensor, little_endian, storage_dtype, tensor_dtype
from blixt.data.errors import SchemaError
from blixt.data.schema import Column, Schema, Structure, join_path
from blixt.data.types import Coded, Tokens

Encoder = Callable[[Any, object], list[Any]]
_PACKERS: dict[str, tuple[type, Callable[[Any], bytes]]] = {
    "int": (int, struct.Struct("<q").pack),
    "float": (float, struct.Struct("<d").pack),
    "bool": (bool, struct.Struct("<?").pack),
}
_BAD_LEAF = (TypeError, ValueError, OverflowError, struct.error)


def compile_encoder(schema: Schema) -> Encoder:
    """Return a function `(sample, where) -> values`, one storable value per column.

    A fixed value and a variable value are `bytes`, a stream value is a 1-D array. The function raises
    `SchemaError` naming `where` and the field when the sample does not fit.
    """
    flatten = _flattener(schema.structure, "")
    encoders = [(column.name, _leaf_encoder(column)) for column in schema.columns]
    encode_each = [encode_leaf for _, encode_leaf in encoders]

    def encode(sample: Any, where: object) -> list[Any]:
        leaves: list[Any] = []
        try:
            flatten(sample, leaves)
            return [encode_leaf(leaf) for encode_leaf, leaf in zip(encode_each, leaves, strict=True)]
        except _StructureMismatch as problem:
            raise SchemaError(f"{where}: {problem}") from None
        except _BAD_LEAF:
            raise _name_bad_leaf(encoders, leaves, where) from None

    return encode


class _StructureMismatch(Exception):
    pass


def _name_bad_leaf(
    encoders: list[tuple[str, Callable[[Any], Any]]], leaves: list[Any], where: object
) -> SchemaError:
    for (name, encode_leaf), leaf in zip(encoders, leaves, strict=True):
        try:
            encode_leaf(leaf)
        except _BAD_LEAF as problem:
            return SchemaError(f"{where}, field {name!r}: {problem}")
    raise AssertionError("a leaf failed once and then did not")


def _flattener(structure: Structure, path: str) -> Callable[[Any, list[Any]], None]:
    """Compile the tree into nested closures that append a sample's leaves in column order."""
    kind, children = next(iter(structure.items()))
    here = f"field {path!r}" if path else "the sample"
    if kind == "leaf":
        return lambda node, leaves: leaves.append(node)
    if kind == "dict":
        parts = [(key, _flattener(child, join_path(path, key))) for key, child in children.items()]
        keys = children.keys()

        def flatten_dict(node: Any, leaves: list[Any]) -> None:
            if type(node) is not dict or node.keys() != keys:
                is_dict = isinstance(node, dict)
                got = f"keys {sorted(map(str, cast('Any', node)))}" if is_dict else f"a {type(node).__name__}"
                raise _StructureMismatch(f"{here} should be a dict with keys {sorted(keys)}, got {got}")
            for key, flatten in parts:
                flatten(node[key], leaves)

        return flatten_dict
    container: type = list if kind == "list" else tuple
    items = [_flattener(child, join_path(path, str(i))) for i, child in enumerate(children)]

    def flatten_sequence(node: Any, leaves: list[Any]) -> None:
        if not isinstance(node, container) or len(node) != len(items):
            raise _StructureMismatch(
                f"{here} should be a {kind} of {len(items)}, got a {type(node).__name__}"
                + (f" of {len(cast('Sized', node))}" if isinstance(node, (list, tuple)) else "")
                + "; wrap sequences of varying length in Array, Json or Tokens"
            )
        for item, flatten in zip(node, items, strict=True):
            flatten(item, leaves)

    return flatten_sequence


def _leaf_encoder(column: Column) -> Callable[[Any], Any]:
    if column.kind == "stream":
        return _token_encoder(column)
    if column.kind == "variable":
        if column.type.startswith(USER):
            return _coded_encoder(column.type.removeprefix(USER))
        return codec_for(column.type, column.dtype).encode
    if column.type in ("array", "tensor"):
        return _array_encoder(column)
    accepted, pack = _PACKERS[column.type]

    def encode_scalar(value: Any) -> bytes:
        if type(value) is not accepted:
            raise TypeError(f"expected {column.type}, got {type(value).__name__}")
        return pack(value)

    return encode_scalar


def _coded_encoder(name: str) -> Callable[[Any], bytes]:
    def encode(value: Any) -> bytes:
        if type(value) is not Coded or value.codec.name != name:
            raise TypeError(f"expected Coded(...) in codec {name!r}, got {type(value).__name__}")
        return value.codec.encode(value.value)

    return encode


def _array_encoder(column: Column) -> Callable[[Any], bytes]:
    dtype, shape = storage_dtype(str(column.dtype)), column.shape
    is_for_tensors = column.type == "tensor"

    def encode(value: Any) -> bytes:
        if type(value) is np.ndarray and value.dtype is dtype and value.shape == shape and not is_for_tensors:
            return little_endian(value).tobytes()
        array = as_array(value)
        if array is None or is_tensor(value) is not is_for_tensors:
            raise TypeError(f"expected {column.describe()}, got {type(value).__name__}")
        found = tensor_dtype(value) if is_for_tensors else array.dtype.name
        if array.dtype != dtype or array.shape != shape or found != column.dtype:
            wrapper = "Tensor" if is_for_tensors else "Array"
            hint = f"; wrap values of varying shape in {wrapper}" if found == column.dtype else ""
            raise ValueError(f"expected {column.describe()}, got {found}{list(array.shape)}{hint}")
        return little_endian(array).tobytes()

    return encode


def _token_encoder(column: Column) -> Callable[[Any], np.ndarray[Any, Any]]:
    def encode(value: Any) -> np.ndarray[Any, Any]:
        tokens = value if isinstance(value, Tokens) else Tokens(value)
        array = Tokens(tokens.values, tokens.dtype or column.dtype).array()
        if array.dtype.name != column.dtype:
            raise ValueError(f"expected {column.describe()}, got tokens of {array.dtype}")
        return little_endian(array)

    return encode
