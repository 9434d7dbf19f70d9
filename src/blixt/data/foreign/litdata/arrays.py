"""LitData's `tensor` and `numpy` leaves: its two tables of dtypes, and headers of dtype and shape."""

import struct
from typing import Any

import numpy as np

from blixt.data.errors import FormatError

_TENSOR_DTYPES: dict[int, str] = {
    **dict.fromkeys((0, 1), "f4"),
    **dict.fromkeys((2, 3), "f8"),
    **dict.fromkeys((4, 5), "c8"),
    **dict.fromkeys((6, 7), "c16"),
    **dict.fromkeys((8, 9), "f2"),
    11: "u1",
    12: "i1",
    **dict.fromkeys((13, 14), "i2"),
    **dict.fromkeys((15, 16), "i4"),
    **dict.fromkeys((17, 18), "i8"),
    19: "?",
    20: "u2",
}
"""Numbers of torch's dtypes in LitData's tables; 10 is bfloat16, which no version could write."""
NUMPY_DTYPES = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16", "?")


def dtype(family: str, number: int) -> np.dtype[Any]:
    """Return the dtype behind a number in LitData's tables.

    Args:
        family: `tensor` or `numpy`: each has a table of its own.
        number: the entry.

    Raises:
        FormatError: when there is no such entry, or it is one that arrays of numbers cannot have.
    """
    known = dict(enumerate(NUMPY_DTYPES)) if family == "numpy" else _TENSOR_DTYPES
    if number not in known:
        raise FormatError(f"a {family} has LitData's dtype number {number}, which is not one of numbers")
    return np.dtype(known[number])


def array_of(family: str, data: bytes) -> np.ndarray[Any, Any]:
    """Decode a `tensor` or `numpy` leaf: u32 dtype, rank and dimensions; the elements.

    The header of tensors is big-endian, before 0.2.58 little-endian as that of arrays.
    """
    big = family == "tensor" and data[0] == 0 and data[4] == 0  # no dtype, no rank fills its highest byte
    order = ">" if big else "<"
    number, rank = struct.unpack_from(f"{order}II", data)
    shape = struct.unpack_from(f"{order}{rank}I", data, 8)
    return np.frombuffer(bytes(data[8 + 4 * rank :]), dtype(family, number)).reshape(shape)
