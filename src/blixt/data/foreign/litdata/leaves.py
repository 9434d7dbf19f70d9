"""LitData's leaves by their names in its index, decoded to plain values, or as our writer stores them."""

import io
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from blixt.data.errors import FormatError
from blixt.data.foreign import leaves
from blixt.data.foreign.litdata import nested
from blixt.data.foreign.optional import need
from blixt.data.types import Audio, Graph, Image, Jpeg, Json, Pickle, Tiff, Video

Decode = Callable[[bytes], Any]

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
_NUMPY_DTYPES = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16", "?")
_MEDIA = ("file", "tif", "video", "audio", "nifti", "mesh", "pdf")
"""Kept as the bytes of the file; an index may add its extension, as in `audio:wav`."""
_GRAPH_MAGIC = b"LDGR"


def decoder(name: str, allow_pickle: bool, own: Mapping[str, Decode], stored: bool) -> Decode:
    """Return the function that turns a leaf's bytes into a value.

    Args:
        name: the leaf's name in `data_format`, such as `jpeg` or `no_header_tensor:16`.
        allow_pickle: whether pickles may be read.
        own: functions of the caller, by name (whole, or what stands before a colon); they come first.
        stored: return what our writer stores without loss in place of decoded media and arrays.

    Raises:
        FormatError: when the name is not known.
    """
    kind, _, detail = name.partition(":")
    if name in own or kind in own:
        return own[name if name in own else kind]
    if kind.startswith("no_header_") and detail.isdecimal():
        return _flat(dtype(kind.removeprefix("no_header_"), int(detail)))
    if kind in ("pickle", "graph"):
        return lambda data: _opaque(bytes(data), kind, allow_pickle, stored)
    if stored and kind in _STORED:
        return _STORED[kind]
    if kind in _PLAIN:
        return _PLAIN[kind]
    raise FormatError(
        f"a leaf is of LitData's type {name!r}, which is not known here; pass decoders={{{kind!r}: "
        "function}, a function from bytes to the value"
    )


def dtype(family: str, number: int) -> np.dtype[Any]:
    """Return the dtype behind a number in LitData's tables.

    Args:
        family: `tensor` or `numpy`: each has a table of its own.
        number: the entry.

    Raises:
        FormatError: when there is no such entry, or it is one that arrays of numbers cannot have.
    """
    known = dict(enumerate(_NUMPY_DTYPES)) if family == "numpy" else _TENSOR_DTYPES
    if number not in known:
        raise FormatError(f"a {family} has LitData's dtype number {number}, which is not one of numbers")
    return np.dtype(known[number])


def _flat(item: np.dtype[Any]) -> Decode:
    return lambda data: np.frombuffer(bytes(data), item.newbyteorder("<"))


def _tensor(data: bytes) -> np.ndarray[Any, Any]:
    """u32 dtype, rank and dimensions, big-endian (in versions before 0.2.58 little-endian); the elements."""
    big = data[0] == 0 and data[4] == 0  # neither a dtype nor a rank fills its highest byte
    return _shaped("tensor", data, ">" if big else "<")


def _shaped(family: str, data: bytes, order: str) -> np.ndarray[Any, Any]:
    number, rank = struct.unpack_from(f"{order}II", data)
    shape = struct.unpack_from(f"{order}{rank}I", data, 8)
    return np.frombuffer(bytes(data[8 + 4 * rank :]), dtype(family, number)).reshape(shape)


def _opaque(data: bytes, kind: str, allow_pickle: bool, stored: bool) -> Any:
    if kind == "graph" and data.startswith(_GRAPH_MAGIC):
        graph = _graph(data, allow_pickle)
        return Graph(graph) if stored else graph
    value = leaves.unpickle(data, allow_pickle, f"a {kind} leaf of LitData")
    if not stored:
        return value
    return Json(value) if value is None or isinstance(value, bool) else Pickle(value)


def _graph(data: bytes, allow_pickle: bool) -> Any:
    """Named tensors (big-endian: version, count; name, kind, payload), and a pickled tree that holds them."""
    version = data[4]
    number = struct.Struct(">H" if version >= 3 else ">B")
    count = number.unpack_from(data, 5)[0]
    at = 5 + number.size
    fields: dict[str, Any] = {}
    meta: dict[str, Any] = {}
    for _ in range(count):
        name_end = at + number.size + number.unpack_from(data, at)[0]
        name = data[at + number.size : name_end].decode()
        at = name_end + (1 if version >= 2 else 0)  # version 1 has no kind: tensors only
        start = at + 4
        payload = data[start : start + struct.unpack_from(">I", data, at)[0]]
        if name == "_meta":
            meta = leaves.unpickle(payload, allow_pickle, "the tree of a graph of LitData")
        else:
            fields[name] = _tensor(payload)
        at = start + len(payload)
    if "_tree" not in meta:
        return fields
    tensors = dict(zip(meta["_paths"], (fields[name] for name in meta["_fields"]), strict=True))
    return _filled(meta["_tree"], tensors, ())


def _filled(tree: Any, tensors: Mapping[tuple[Any, ...], Any], path: tuple[Any, ...]) -> Any:
    if isinstance(tree, dict):
        return {key: _filled(child, tensors, (*path, key)) for key, child in tree.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return tensors.get(path, tree)


def _jpegs(data: bytes) -> list[bytes]:
    """u32 count, u32 lengths, the files."""
    count = struct.unpack_from("<I", data)[0]
    lengths = struct.unpack_from(f"<{count}I", data, 4)
    files: list[bytes] = []
    at = 4 + 4 * count
    for length in lengths:
        files.append(bytes(data[at : at + length]))
        at += length
    return files


def _tiff(data: bytes) -> np.ndarray[Any, Any]:
    return need("tifffile", "media").imread(io.BytesIO(data))


_PLAIN: dict[str, Decode] = {
    "int": lambda data: struct.unpack("<q", data)[0],
    "float": lambda data: struct.unpack("<d", data)[0],
    "bool": lambda data: data[0] != 0,
    "str": leaves.text,
    "text": leaves.text,
    "bytes": bytes,
    "tensor": lambda data: _tensor(data),
    "numpy": lambda data: _shaped("numpy", data, "<"),
    "json": nested.decode,
    "jpeg": leaves.image,
    "image": leaves.image,
    "pil": leaves.raw_image,
    "jpeg_array": lambda data: [leaves.image(file) for file in _jpegs(data)],
    **dict.fromkeys(("tiff", "tifffile"), _tiff),
    **dict.fromkeys(_MEDIA, bytes),
}
_STORED: dict[str, Decode] = {
    "jpeg": lambda data: Jpeg(bytes(data)),
    "image": lambda data: Image(bytes(data)),
    **dict.fromkeys(("tiff", "tifffile"), lambda data: Tiff(bytes(data))),
    "audio": lambda data: Audio(bytes(data)),
    "video": lambda data: Video(bytes(data)),
    "json": lambda data: Json(nested.decode(data)),
    "jpeg_array": lambda data: [Jpeg(file) for file in _jpegs(data)],
}
