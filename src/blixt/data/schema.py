"""Logical columns of a sample: inferred once from the first sample, then compiled to a fast encoder.

A sample is a tree of dicts (string keys), lists and tuples. Every leaf becomes one column, named by its path
(`image.pixels`, `boxes.0`; a sample that is itself a leaf is the column `value`). Three kinds of column
exist:

- fixed: numbers and arrays of one shape, stored as one plain array per shard;
- variable: text, bytes and `Ragged` arrays, stored row by row in checksummed blocks;
- stream: `Tokens` (and a sample that is a bare 1-D integer array), stored flat with document offsets.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from blixt.data.errors import FormatError, SchemaError
from blixt.data.types import Ragged, Tokens

Kind = Literal["fixed", "variable", "stream"]
Structure = dict[str, Any]
"""`{"leaf": column}`, `{"dict": {key: structure}}`, `{"list": [...]}` or `{"tuple": [...]}`."""

FIXED_TYPES = ("int", "float", "bool", "array")
VARIABLE_TYPES = ("utf8", "bytes", "array")
_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
DTYPES = frozenset(("bool", *_INTEGERS, "float16", "float32", "float64", "complex64", "complex128"))
_SCALARS: dict[type, tuple[str, str]] = {
    bool: ("bool", "bool"),
    int: ("int", "int64"),
    float: ("float", "float64"),
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its path, how it is stored, and its logical type by name."""

    name: str
    kind: Kind
    type: str
    dtype: str | None = None
    shape: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the column as the footer stores it."""
        column: dict[str, Any] = {"name": self.name, "kind": self.kind, "type": self.type}
        if self.dtype is not None:
            column["dtype"] = self.dtype
        if self.kind == "fixed":
            column["shape"] = list(self.shape)
        return column

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "Column":
        """Read a column from a footer.

        Raises:
            FormatError: when a type is not known to this version.
        """
        column = cls(
            stored["name"],
            stored["kind"],
            stored["type"],
            stored.get("dtype"),
            tuple(stored.get("shape", ())),
        )
        known = {"fixed": FIXED_TYPES, "variable": VARIABLE_TYPES, "stream": ("tokens",)}.get(column.kind, ())
        if column.type not in known or (column.dtype is not None and column.dtype not in DTYPES):
            raise FormatError(
                f"column {column.name!r} has kind {column.kind!r}, type {column.type!r}, dtype "
                f"{column.dtype!r}, "
                "which this version of blixt does not know; read it with the version that wrote it"
            )
        return column

    def describe(self) -> str:
        """Say in a few words what the column holds, such as `float32[3, 4]`."""
        if self.kind == "stream":
            return f"tokens of {self.dtype}"
        if self.type == "array":
            return (
                f"{self.dtype}[{'varying' if self.kind == 'variable' else ', '.join(map(str, self.shape))}]"
            )
        return self.type


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns of a dataset, in the order of the leaves, and the tree that they came from."""

    columns: tuple[Column, ...]
    structure: Structure

    def to_json(self) -> dict[str, Any]:
        """Return the schema as the footer and the snapshot store it."""
        return {"columns": [column.to_json() for column in self.columns], "structure": self.structure}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "Schema":
        """Read a schema from a footer or a snapshot."""
        return cls(tuple(Column.from_json(column) for column in stored["columns"]), stored["structure"])

    def encoder(self) -> Callable[[Any, str], list[Any]]:
        """Return a function `(sample, where) -> values`, one storable value per column.

        A fixed value and a variable value are `bytes`, a stream value is a 1-D array.
        """
        flatten = _flattener(self.structure, "")
        encoders = [(column.name, _leaf_encoder(column)) for column in self.columns]

        def encode(sample: Any, where: str) -> list[Any]:
            leaves: list[Any] = []
            try:
                flatten(sample, leaves)
                return [encode_leaf(leaf) for (_, encode_leaf), leaf in zip(encoders, leaves, strict=True)]
            except _StructureMismatch as problem:
                raise SchemaError(f"{where}: {problem}") from None
            except (TypeError, ValueError, OverflowError):
                raise _name_bad_leaf(encoders, leaves, where) from None

        return encode


class _StructureMismatch(Exception):
    pass


def _name_bad_leaf(
    encoders: list[tuple[str, Callable[[Any], Any]]], leaves: list[Any], where: str
) -> SchemaError:
    for (name, encode_leaf), leaf in zip(encoders, leaves, strict=True):
        try:
            encode_leaf(leaf)
        except (TypeError, ValueError, OverflowError) as problem:
            return SchemaError(f"{where}, field {name!r}: {problem}")
    raise AssertionError("a leaf failed once and then did not")


def infer(sample: Any, where: str = "the first sample") -> Schema:
    """Infer the schema from one sample.

    Raises:
        SchemaError: when a leaf has a type that cannot be stored, naming its path.

    Example:
        >>> [column.describe() for column in infer({"id": 7, "text": "hi"}).columns]
        ['int', 'utf8']
    """
    if isinstance(sample, np.ndarray) and sample.ndim == 1 and sample.dtype.kind in "iu":
        sample = Tokens(sample)
    columns: list[Column] = []
    structure = _infer_node(sample, "", columns, where)
    names = [column.name for column in columns]
    if not columns:
        raise SchemaError(f"{where} is empty: a sample needs at least one field")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SchemaError(f"{where}: two fields share the path {twice!r}; rename the key that holds a dot")
    return Schema(tuple(columns), structure)


def _infer_node(node: Any, path: str, columns: list[Column], where: str) -> Structure:
    if isinstance(node, dict):
        for key in node:
            if not isinstance(key, str):
                raise SchemaError(f"{where}, field {path!r}: dict keys must be strings, got {key!r}")
        return {
            "dict": {key: _infer_node(child, _join(path, key), columns, where) for key, child in node.items()}
        }
    if isinstance(node, (list, tuple)):
        kind = "list" if isinstance(node, list) else "tuple"
        children = [_infer_node(child, _join(path, str(i)), columns, where) for i, child in enumerate(node)]
        return {kind: children}
    name = path or "value"
    try:
        columns.append(_infer_leaf(node, name))
    except ValueError as problem:
        raise SchemaError(f"{where}, field {name!r}: {problem}") from None
    return {"leaf": name}


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _infer_leaf(leaf: Any, name: str) -> Column:
    if type(leaf) in _SCALARS:
        logical, dtype = _SCALARS[type(leaf)]
        return Column(name, "fixed", logical, dtype)
    if isinstance(leaf, str):
        return Column(name, "variable", "utf8")
    if isinstance(leaf, (bytes, bytearray, memoryview)):
        return Column(name, "variable", "bytes")
    if isinstance(leaf, Tokens):
        return Column(name, "stream", "tokens", leaf.array().dtype.name)
    if isinstance(leaf, Ragged):
        return Column(name, "variable", "array", _known_dtype(np.asarray(leaf.array)))
    array = _as_array(leaf)
    if array is None:
        raise ValueError(
            f"cannot store a {type(leaf).__name__}; use numbers, str, bytes, arrays, Tokens, or dicts and "
            "lists of them"
        )
    return Column(name, "fixed", "array", _known_dtype(array), array.shape)


def _known_dtype(array: np.ndarray[Any, Any]) -> str:
    if array.dtype.name not in DTYPES:
        raise ValueError(f"cannot store an array of dtype {array.dtype}")
    return array.dtype.name


def _as_array(leaf: Any) -> np.ndarray[Any, Any] | None:
    """Return numpy arrays, numpy scalars and tensors (anything with `detach`) as an array, else None."""
    if isinstance(leaf, (np.ndarray, np.generic)):
        return np.asarray(leaf)
    return np.asarray(leaf.detach().cpu()) if hasattr(leaf, "detach") else None


def _flattener(structure: Structure, path: str) -> Callable[[Any, list[Any]], None]:
    """Compile the tree into nested closures that append a sample's leaves in column order."""
    kind, children = next(iter(structure.items()))
    here = f"field {path!r}" if path else "the sample"
    if kind == "leaf":
        return lambda node, leaves: leaves.append(node)
    if kind == "dict":
        parts = [(key, _flattener(child, _join(path, key))) for key, child in children.items()]
        keys = children.keys()

        def flatten_dict(node: Any, leaves: list[Any]) -> None:
            if type(node) is not dict or node.keys() != keys:
                got = (
                    f"keys {sorted(map(str, node))}" if isinstance(node, dict) else f"a {type(node).__name__}"
                )
                raise _StructureMismatch(f"{here} should be a dict with keys {sorted(keys)}, got {got}")
            for key, flatten in parts:
                flatten(node[key], leaves)

        return flatten_dict
    container: type = list if kind == "list" else tuple
    items = [_flattener(child, _join(path, str(i))) for i, child in enumerate(children)]

    def flatten_sequence(node: Any, leaves: list[Any]) -> None:
        if not isinstance(node, container) or len(node) != len(items):
            raise _StructureMismatch(
                f"{here} should be a {kind} of {len(items)}, got a {type(node).__name__}"
                + (f" of {len(node)}" if isinstance(node, (list, tuple)) else "")
                + "; wrap sequences of varying length in Ragged or Tokens"
            )
        for item, flatten in zip(node, items, strict=True):
            flatten(item, leaves)

    return flatten_sequence


def _leaf_encoder(column: Column) -> Callable[[Any], Any]:
    if column.kind == "stream":
        return _token_encoder(column)
    if column.kind == "variable":
        return {"utf8": _encode_text, "bytes": _encode_bytes, "array": _ragged_encoder(column)}[column.type]
    if column.type == "array":
        return _array_encoder(column)
    dtype = np.dtype(column.dtype).newbyteorder("<")
    accepted = {"int": int, "bool": bool, "float": float}[column.type]

    def encode_scalar(value: Any) -> bytes:
        if type(value) is not accepted:
            raise TypeError(f"expected {column.type}, got {type(value).__name__}")
        return np.array(value, dtype).tobytes()

    return encode_scalar


def _encode_text(value: Any) -> bytes:
    if not isinstance(value, str):
        raise TypeError(f"expected str, got {type(value).__name__}")
    return value.encode()


def _encode_bytes(value: Any) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"expected bytes, got {type(value).__name__}")
    return bytes(value)


def _array_encoder(column: Column) -> Callable[[Any], bytes]:
    dtype, shape = np.dtype(column.dtype), column.shape

    def encode(value: Any) -> bytes:
        array = _as_array(value)
        if array is None:
            raise TypeError(f"expected {column.describe()}, got {type(value).__name__}")
        if array.dtype != dtype or array.shape != shape:
            hint = "; wrap arrays of varying shape in Ragged" if array.dtype == dtype else ""
            raise ValueError(f"expected {column.describe()}, got {array.dtype}{list(array.shape)}{hint}")
        return little_endian(array).tobytes()

    return encode


def _ragged_encoder(column: Column) -> Callable[[Any], bytes]:
    dtype = None if column.dtype is None else np.dtype(column.dtype)

    def encode(value: Any) -> bytes:
        array = np.asarray(value.array) if isinstance(value, Ragged) else _as_array(value)
        if array is None:
            raise TypeError(f"expected {column.describe()}, got {type(value).__name__}")
        if array.dtype != dtype:
            raise ValueError(f"expected {column.describe()}, got {array.dtype}{list(array.shape)}")
        header = np.array([array.ndim, *array.shape], "<u8").tobytes()
        return header + little_endian(array).tobytes()

    return encode


def _token_encoder(column: Column) -> Callable[[Any], np.ndarray[Any, Any]]:
    def encode(value: Any) -> np.ndarray[Any, Any]:
        tokens = value if isinstance(value, Tokens) else Tokens(value)
        array = Tokens(tokens.values, tokens.dtype or column.dtype).array()
        if array.dtype.name != column.dtype:
            raise ValueError(f"expected {column.describe()}, got tokens of {array.dtype}")
        return little_endian(array)

    return encode


def little_endian(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the array in little-endian byte order (itself, on every machine in use today)."""
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def unflatten(structure: Structure, leaves: dict[str, Any]) -> Any:
    """Rebuild a sample (or a batch) from its leaves by column name."""
    kind, children = next(iter(structure.items()))
    if kind == "leaf":
        return leaves[children]
    if kind == "dict":
        return {key: unflatten(child, leaves) for key, child in children.items()}
    items = [unflatten(child, leaves) for child in children]
    return items if kind == "list" else tuple(items)
