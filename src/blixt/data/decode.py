"""From stored values to what a sample held: decided once per column when a shard is opened."""

from collections.abc import Callable, Mapping
from typing import Any

from blixt.data.codecs import ALWAYS_DECODED, codec_for
from blixt.data.codecs.arrays import to_tensor
from blixt.data.errors import DataError
from blixt.data.schema import Column, Schema, Structure
from blixt.data.types import Codec

Decode = bool | Mapping[str, bool]
"""Whether media columns are decoded: all, none, or by column name (those not named are decoded)."""
Decoder = Callable[[memoryview], Any]


def value_decoder(
    column: Column,
    decode: Decode = True,
    codecs: Mapping[str, Codec] | None = None,
    allow_pickle: bool = False,
) -> Decoder:
    """Return the function from a variable column's stored bytes to its value.

    Raises:
        DataError: when the column holds pickles and they were not allowed.
        FormatError: when it is in a codec that was not given.
    """
    if isinstance(decode, Mapping):
        wanted = decode.get(column.name, True)
    else:
        wanted = decode or column.type in ALWAYS_DECODED
    if not wanted:
        return bytes
    if column.type == "pickle" and not allow_pickle:
        raise DataError(
            f"column {column.name!r} holds pickles, which run code when they are read; if you trust "
            "whoever wrote them, pass allow_pickle=True, else decode=False gives their bytes"
        )
    return codec_for(column.type, column.dtype, codecs).decode


def finish_batch(schema: Schema, leaves: dict[str, Any]) -> dict[str, Any]:
    """Turn the gathered columns of a batch into what users see: tensor columns become tensors, uncopied."""
    for column in schema.columns:
        if column.type == "tensor" and column.kind == "fixed" and column.name in leaves:
            leaves[column.name] = to_tensor(leaves[column.name], str(column.dtype))
    return leaves


def sample_builder(structure: Structure, values: Mapping[str, Callable[[int], Any]]) -> Callable[[int], Any]:
    """Compile the tree into a function from a row to its sample."""
    kind, children = next(iter(structure.items()))
    if kind == "leaf":
        return values[children]
    if kind == "dict":
        return _dict_builder([(key, sample_builder(child, values)) for key, child in children.items()])
    items = [sample_builder(child, values) for child in children]
    if kind == "list":
        return lambda row: [build(row) for build in items]
    return lambda row: tuple([build(row) for build in items])


def _dict_builder(fields: list[tuple[str, Callable[[int], Any]]]) -> Callable[[int], dict[str, Any]]:
    def build_dict(row: int) -> dict[str, Any]:
        sample: dict[str, Any] = {}
        for key, build in fields:  # a comprehension is a call more, for every sample
            sample[key] = build(row)
        return sample

    return build_dict
