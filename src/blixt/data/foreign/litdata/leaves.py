"""LitData's leaves by their names in its index, decoded to plain values, or as our writer stores them."""

import io
import struct
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from blixt.data.errors import FormatError
from blixt.data.foreign import leaves
from blixt.data.foreign.litdata import nested
from blixt.data.foreign.litdata.arrays import array_of, dtype
from blixt.data.foreign.litdata.graph import MAGIC, read_graph
from blixt.data.foreign.optional import need
from blixt.data.types import Audio, Graph, Image, Jpeg, Json, Pickle, Tiff, Video

Decode = Callable[[bytes], Any]

_MEDIA = ("file", "tif", "video", "audio", "nifti", "mesh", "pdf")
"""Kept as the bytes of the file; an index may add its extension, as in `audio:wav`."""


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


def _flat(item: np.dtype[Any]) -> Decode:
    return lambda data: np.frombuffer(bytes(data), item.newbyteorder("<"))


def _opaque(data: bytes, kind: str, allow_pickle: bool, stored: bool) -> Any:
    if kind == "graph" and data.startswith(MAGIC):
        graph = read_graph(data, leaves.plain_pickle)[0]
        return Graph(graph) if stored else graph
    value = leaves.unpickle(data, allow_pickle, f"a {kind} leaf of LitData")
    if not stored:
        return value
    return Json(value) if value is None or isinstance(value, bool) else Pickle(value)


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
    "tensor": partial(array_of, "tensor"),
    "numpy": partial(array_of, "numpy"),
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
