"""Rows of Arrow tables as samples: plain values, or what our writer stores without loss."""

import json
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from blixt.data.errors import FormatError
from blixt.data.foreign import leaves
from blixt.data.foreign.optional import need
from blixt.data.types import Image

Convert = Callable[[Any], Any]


def samples(
    table: Any, stored: bool, media: Collection[str] = (), optional: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Return a table's rows as dicts.

    Args:
        table: a `pyarrow.Table` or `RecordBatch`.
        stored: return what our writer stores without loss: lists of numbers as arrays of any length, times
            as text, other nested values as JSON.
        media: columns of Hugging Face's images: structs of `bytes` and `path`.
        optional: columns in which values are missing somewhere in the dataset; stored as JSON.
    """
    columns: dict[str, list[Any]] = {}
    for field in table.schema:
        values = table.column(field.name).to_pylist()
        if field.name in media:
            values = [None if value is None else _file(value, stored) for value in values]
        elif stored and field.name in optional:
            values = [leaves.plain_json(value) for value in values]
        elif stored:
            convert = _keep(field.type, field.name)
            values = [_present(convert, value, field.name) for value in values]
        columns[field.name] = values
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def media_columns(schema: Any) -> list[str]:
    """Return the columns that Hugging Face's metadata in an Arrow schema calls images."""
    metadata: dict[bytes, bytes] = schema.metadata or {}
    try:
        features: dict[str, Any] = json.loads(metadata[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return []
    return [name for name, kind in features.items() if '"_type": "Image"' in json.dumps(kind)]


def _file(value: dict[str, Any], stored: bool) -> Any:
    data = value.get("bytes")
    if data is None:
        raise FormatError(f"an image is only a path ({value.get('path')!r}): its file is not in the dataset")
    return Image(data) if stored else leaves.image(data)


def _keep(kind: Any, name: str) -> Convert:
    """Return the function that makes a column's values storable."""
    types = need("pyarrow", "parquet").types
    if types.is_struct(kind):
        fields = {field.name: _keep(field.type, f"{name}.{field.name}") for field in kind}
        return lambda value: {
            key: _present(convert, value[key], f"{name}.{key}") for key, convert in fields.items()
        }
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        if types.is_integer(kind.value_type) or types.is_floating(kind.value_type):
            dtype = np.dtype(kind.value_type.to_pandas_dtype())
            return lambda value: np.array(value, dtype)
        return leaves.plain_json
    if types.is_temporal(kind) or types.is_decimal(kind):
        return str
    if types.is_null(kind) or types.is_map(kind):
        return leaves.plain_json
    return lambda value: value


def _present(convert: Convert, value: Any, name: str) -> Any:
    if value is None:
        raise FormatError(
            f"column {name!r} has missing values, which a column of this type cannot hold; leave it out "
            "with columns=, or fill it first"
        )
    return convert(value)
