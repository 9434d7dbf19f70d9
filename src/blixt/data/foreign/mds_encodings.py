"""The encodings of MDS columns by name, decoded to plain values, or as our writer stores them."""

import struct
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import cache
from typing import Any

import numpy as np

from blixt.data.errors import FormatError
from blixt.data.foreign import leaves
from blixt.data.types import Jpeg, Json, Pickle, Png

Decode = Callable[[bytes], Any]
_SCALARS = (
    *("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
)
_VALUE_DTYPES = {
    8: "uint8",
    9: "int8",
    16: "uint16",
    17: "int16",
    18: "float16",
    32: "uint32",
    33: "int32",
    34: "float32",
    64: "uint64",
    65: "int64",
    66: "float64",
}
"""An array's dtype as one byte: bits, and 0 unsigned, 1 signed, 2 floating point."""


def decoder(name: str, allow_pickle: bool, own: Mapping[str, Decode], stored: bool) -> Decode:
    """Return the function that turns a column's bytes into a value.

    Args:
        name: the encoding, such as `jpeg` or `ndarray:uint8:2,3`.
        allow_pickle: whether pickles may be read.
        own: functions of the caller, by encoding (what stands before a colon); they come first.
        stored: return what our writer stores without loss in place of decoded media and arrays.

    Raises:
        FormatError: when the encoding is not known.
    """
    kind, _, detail = name.partition(":")
    if kind in own:
        return own[kind]
    if kind == "ndarray":
        return _ndarray(detail)
    if kind == "pkl":
        return lambda data: _pickled(data, allow_pickle, stored)
    if stored and kind in _STORED:
        return _STORED[kind]
    if kind in _SCALARS:
        return _scalar(kind)
    if kind in _PLAIN:
        return _PLAIN[kind]
    raise FormatError(
        f"a column has the encoding {name!r}, which is not known here; pass decoders={{{kind!r}: function}} "
        "with a function from bytes to the value"
    )


def _pickled(data: bytes, allow_pickle: bool, stored: bool) -> Any:
    value = leaves.unpickle(data, allow_pickle, "a column of encoding 'pkl'")
    return Pickle(value) if stored else value


@cache
def _scalar(kind: str) -> Decode:
    dtype = np.dtype(kind).newbyteorder("<")
    return lambda data: np.frombuffer(data, dtype)[0]


def _ndarray(detail: str) -> Decode:
    """`[u8 dtype] [u8 rank << 2 | log2 of a dimension's bytes] [dimensions] elements`, less what is fixed."""
    fixed_dtype, _, fixed_shape = detail.partition(":")
    shape = tuple(map(int, fixed_shape.split(","))) if fixed_shape else None

    def decode(data: bytes) -> np.ndarray[Any, Any]:
        at, dtype, dimensions = 0, fixed_dtype, shape
        if not dtype:
            dtype, at = _VALUE_DTYPES[data[0]], 1
        if dimensions is None:
            rank, item = data[at] >> 2, 1 << (data[at] & 3)
            dimensions = tuple(np.frombuffer(data, f"<u{item}", rank, at + 1).tolist())
            at += 1 + rank * item
        return np.frombuffer(data, np.dtype(dtype).newbyteorder("<"), offset=at).reshape(dimensions)

    return decode


def _list_of(decode: Decode) -> Decode:
    """u32 reserved, u32 count, u32 sizes, the elements."""

    def decode_all(data: bytes) -> list[Any]:
        count = struct.unpack_from("<I", data, 4)[0]
        at = 8 + 4 * count
        values: list[Any] = []
        for size in struct.unpack_from(f"<{count}I", data, 8):
            values.append(decode(data[at : at + size]))
            at += size
        return values

    return decode_all


_PLAIN: dict[str, Decode] = {
    "bytes": bytes,
    "str": leaves.text,
    "int": lambda data: struct.unpack("<q", data)[0],
    "json": leaves.json_value,
    "str_int": lambda data: int(data.decode()),
    "str_float": lambda data: float(data.decode()),
    "str_decimal": lambda data: Decimal(data.decode()),
    "jpeg": leaves.image,
    "png": leaves.image,
    **dict.fromkeys(("jpeg_array", "jpegarray"), leaves.image),
    "pil": leaves.raw_image,
    "list[jpeg]": _list_of(leaves.image),
    "list[png]": _list_of(leaves.image),
    "list[pil]": _list_of(leaves.raw_image),
}
_STORED: dict[str, Decode] = {
    **dict.fromkeys(("jpeg", "jpeg_array", "jpegarray"), Jpeg),
    "png": Png,
    "list[jpeg]": _list_of(Jpeg),
    "list[png]": _list_of(Png),
    "json": lambda data: Json(leaves.json_value(data)),
    **dict.fromkeys(("str_int", "str_decimal"), leaves.text),
}
"""Images stay files; numbers of any length stay text, since a column of numbers has a fixed width."""
