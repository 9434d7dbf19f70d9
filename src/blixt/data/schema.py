"""Logical columns of a sample, inferred once from the first sample.

A sample is a tree of dicts (string keys), lists and tuples. Every leaf becomes one column, named by its path
(`image.pixels`, `boxes.0`; a sample that is itself a leaf is the column `value`). There are three kinds:

- fixed: numbers and arrays of one shape, stored as one plain array per shard;
- variable: text, bytes and `Ragged` arrays, stored row by row in checksummed blocks;
- stream: `Tokens` (and a sample that is a bare 1-D integer array), stored flat with document offsets.
"""

from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np

from blixt.data.errors import FormatError, SchemaError
from blixt.data.types import Ragged, Tokens

Kind = Literal["fixed", "variable", "stream"]
Structure = dict[str, Any]
"""`{"leaf": column}`, `{"dict": {key: structure}}`, `{"list": [...]}` or `{"tuple": [...]}`."""

_NUMPY: tuple[type, ...] = (np.ndarray, np.generic)
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


def infer(sample: Any, where: str = "the first sample") -> Schema:
    """Infer the schema from one sample.

    Raises:
        SchemaError: when a leaf has a type that cannot be stored, naming its path.

    Example:
        >>> [column.describe() for column in infer({"id": 7, "text": "hi"}).columns]
        ['int', 'utf8']
    """
    if isinstance(sample, np.ndarray):
        array = cast("np.ndarray[Any, Any]", sample)
        sample = Tokens(array) if array.ndim == 1 and array.dtype.kind in "iu" else array
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
        fields = cast("dict[Any, Any]", node)
        for key in fields:
            if not isinstance(key, str):
                raise SchemaError(f"{where}, field {path!r}: dict keys must be strings, got {key!r}")
        return {
            "dict": {
                key: _infer_node(child, join_path(path, key), columns, where) for key, child in fields.items()
            }
        }
    if isinstance(node, (list, tuple)):
        kind = "list" if isinstance(node, list) else "tuple"
        items = cast("list[Any]", node)
        children = [
            _infer_node(child, join_path(path, str(i)), columns, where) for i, child in enumerate(items)
        ]
        return {kind: children}
    name = path or "value"
    try:
        columns.append(_infer_leaf(node, name))
    except ValueError as problem:
        raise SchemaError(f"{where}, field {name!r}: {problem}") from None
    return {"leaf": name}


def join_path(path: str, key: str) -> str:
    """Return the path of a field below another one."""
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
        return Column(name, "variable", "array", _known_dtype(native(np.asarray(leaf.array))))
    array = as_array(leaf)
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


def as_array(leaf: Any) -> np.ndarray[Any, Any] | None:
    """Return numpy arrays, numpy scalars and tensors (anything with `detach`) as an array, else None."""
    if isinstance(leaf, _NUMPY):
        return native(np.asarray(leaf))
    return np.asarray(leaf.detach().cpu()) if hasattr(leaf, "detach") else None


def native(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the array in this machine's byte order."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def unflatten(structure: Structure, leaves: dict[str, Any]) -> Any:
    """Rebuild a sample (or a batch) from its leaves by column name."""
    kind, children = next(iter(structure.items()))
    if kind == "leaf":
        return leaves[children]
    if kind == "dict":
        return {key: unflatten(child, leaves) for key, child in children.items()}
    items = [unflatten(child, leaves) for child in children]
    return items if kind == "list" else tuple(items)
