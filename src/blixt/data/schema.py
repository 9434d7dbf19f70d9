"""Logical columns of a sample, inferred once from the first sample.

A sample is a tree of dicts (string keys), lists and tuples. Every leaf becomes one column, named by its path
(`image.pixels`, `boxes.0`; a sample that is itself a leaf is the column `value`). There are three kinds:

- fixed: numbers and arrays of one shape, stored as one plain array per shard;
- variable: text, bytes, `Array`, images, sound and whatever has a codec, stored row by row in blocks;
- stream: `Tokens` (and a sample that is a bare 1-D integer array), stored flat with document offsets.
"""

from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np

from blixt.data.codecs import USER, VARIABLE_TYPES
from blixt.data.codecs.arrays import BFLOAT16, as_array, is_tensor, tensor_dtype
from blixt.data.codecs.graphs import is_geometric
from blixt.data.codecs.images import is_pillow
from blixt.data.errors import FormatError, SchemaError
from blixt.data.types import Array, Coded, Tensor, Tokens, Wrapped

Kind = Literal["fixed", "variable", "stream"]
Structure = dict[str, Any]
"""`{"leaf": column}`, `{"dict": {key: structure}}`, `{"list": [...]}` or `{"tuple": [...]}`."""

FIXED_TYPES = ("int", "float", "bool", "array", "tensor")
_ARRAYS = ("array", "tensor")
_MAX_DEPTH = 64
_MAX_DIMENSIONS = 32
_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
DTYPES = frozenset(("bool", *_INTEGERS, "float16", BFLOAT16, "float32", "float64", "complex64", "complex128"))
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
            str(stored["name"]),
            stored["kind"],
            str(stored["type"]),
            stored.get("dtype"),
            tuple(stored.get("shape", ())),
        )
        known = {"fixed": FIXED_TYPES, "variable": VARIABLE_TYPES, "stream": ("tokens",)}.get(column.kind, ())
        is_known = column.type in known or (column.kind == "variable" and column.type.startswith(USER))
        if not is_known or not _dtype_fits(column):
            raise FormatError(
                f"column {column.name!r} has kind {column.kind!r:.40}, type {column.type!r:.40}, dtype "
                f"{column.dtype!r:.40}, which this version of blixt does not know; read it with the "
                "version that wrote it"
            )
        if len(column.shape) > _MAX_DIMENSIONS or not all(
            type(side) is int and 0 <= side < 2**40 for side in column.shape
        ):
            raise FormatError(f"column {column.name!r} has shape {column.shape!r:.80}, which cannot be")
        return column

    def describe(self) -> str:
        """Say in a few words what the column holds, such as `float32[3, 4]`."""
        if self.kind == "stream":
            return f"tokens of {self.dtype}"
        if self.type in _ARRAYS:
            shape = "varying" if self.kind == "variable" else ", ".join(map(str, self.shape))
            return f"{'tensor of ' if self.type == 'tensor' else ''}{self.dtype}[{shape}]"
        return self.type.removeprefix(USER)


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
        """Read a schema from a footer or a snapshot.

        Raises:
            FormatError: when it is none that this version can read.
        """
        columns = tuple(Column.from_json(column) for column in stored["columns"])
        names = {column.name for column in columns}
        if len(names) != len(columns):
            raise FormatError("two columns have the same name")
        _check_structure(stored["structure"], names, 0)
        return cls(columns, stored["structure"])


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
    try:
        structure = _infer_node(sample, "", columns, where)
    except RecursionError:
        raise SchemaError(f"{where} is nested too deeply, or contains itself") from None
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
    if isinstance(leaf, Coded):
        return Column(name, "variable", f"{USER}{leaf.codec.name}")
    if isinstance(leaf, Wrapped):
        return Column(name, "variable", leaf.type)
    return _infer_array(leaf, name)


def _infer_array(leaf: Any, name: str) -> Column:
    if isinstance(leaf, (Array, Tensor)):
        content: Any = leaf.array if isinstance(leaf, Array) else leaf.tensor
        kind, logical = "variable", "array" if isinstance(leaf, Array) else "tensor"
    else:
        content, kind, logical = leaf, "fixed", "tensor" if is_tensor(leaf) else "array"
    array = as_array(np.asarray(content) if isinstance(leaf, Array) else content)
    if array is None:
        if is_pillow(leaf) or is_geometric(leaf):
            return Column(name, "variable", "image" if is_pillow(leaf) else "graph")
        raise ValueError(
            f"cannot store a {type(content).__name__}; use numbers, str, bytes, arrays, tensors, "
            "Tokens, a wrapper of blixt.data.types (Json, Jpeg, ...), or dicts and lists of them"
        )
    dtype = tensor_dtype(content) if logical == "tensor" else array.dtype.name
    if dtype not in DTYPES:
        raise ValueError(f"cannot store an array of dtype {content.dtype}")
    return Column(name, cast("Kind", kind), logical, dtype, array.shape if kind == "fixed" else ())


def _dtype_fits(column: Column) -> bool:
    if column.kind == "stream":
        return column.dtype in _INTEGERS
    if column.kind == "fixed" or column.type in _ARRAYS:
        return column.dtype in DTYPES and (column.dtype != BFLOAT16 or column.type == "tensor")
    return column.dtype is None


def _check_structure(structure: Any, names: set[str], depth: int) -> None:
    """Refuse a tree that is none, is nested absurdly, or names columns that are not there."""
    if depth > _MAX_DEPTH or not isinstance(structure, dict) or len(cast("dict[str, Any]", structure)) != 1:
        raise FormatError("the structure of its samples makes no sense")
    kind, children = next(iter(cast("dict[str, Any]", structure).items()))
    if kind == "leaf":
        if children not in names:
            raise FormatError(
                f"the structure of its samples names a column {children!r:.80} that is not there"
            )
        return
    if kind != "dict" and kind not in ("list", "tuple"):
        raise FormatError(f"the structure of its samples has a node of kind {kind!r:.40}")
    nodes = cast("dict[str, Any]", children).values() if kind == "dict" else cast("list[Any]", children)
    for child in nodes:
        _check_structure(child, names, depth + 1)


def unflatten(structure: Structure, leaves: dict[str, Any]) -> Any:
    """Rebuild a sample (or a batch) from its leaves by column name."""
    kind, children = next(iter(structure.items()))
    if kind == "leaf":
        return leaves[children]
    if kind == "dict":
        return {key: unflatten(child, leaves) for key, child in children.items()}
    items = [unflatten(child, leaves) for child in children]
    return items if kind == "list" else tuple(items)
