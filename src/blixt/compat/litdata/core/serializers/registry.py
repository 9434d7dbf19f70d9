"""The serializers by LitData's names, in the order in which a value is offered to them."""

from collections.abc import Mapping
from copy import copy, deepcopy
from typing import Any

from blixt.compat.litdata.core.serializers import arrays, graphs, images, media, plain
from blixt.compat.litdata.core.serializers.base import Serializer

BUILT_IN: dict[str, Serializer] = {
    "str": plain.StringSerializer(),
    "text": plain.TextSerializer(),
    "bool": plain.BooleanSerializer(),
    "int": plain.IntegerSerializer(),
    "float": plain.FloatSerializer(),
    "video": media.VideoSerializer(),
    "audio": media.AudioSerializer(),
    "image": images.ImageSerializer(),
    "nifti": media.NiftiSerializer(),
    "mesh": media.MeshSerializer(),
    "pdf": media.PDFSerializer(),
    "graph": graphs.GraphSerializer(),
    "tifffile": images.TIFFSerializer(),
    "file": plain.FileSerializer(),
    "pil": images.PILSerializer(),
    "jpeg": images.JPEGSerializer(),
    "jpeg_array": images.JPEGArraySerializer(),
    "bytes": plain.BytesSerializer(),
    "no_header_numpy": arrays.NoHeaderNumpySerializer(),
    "numpy": arrays.NumpySerializer(),
    "no_header_tensor": arrays.NoHeaderTensorSerializer(),
    "tensor": arrays.TensorSerializer(),
    "json": plain.JsonSerializer(),
    "pickle": plain.PickleSerializer(),
}
"""LitData's table; what you add to it, `optimize` and `Cache` use."""
_LITDATA_OWN = dict(BUILT_IN)


def merged(serializers: Mapping[str, Serializer] | None) -> dict[str, Serializer]:
    """Return all serializers: the given ones first, then a copy of each other of the table."""
    given = dict(serializers or {})
    return {**given, **{name: copy(one) for name, one in BUILT_IN.items() if name not in given}}


def added(serializers: Mapping[str, Serializer] | None) -> dict[str, Serializer]:
    """Return the serializers that are not LitData's own: the given ones, then those added to the table."""
    given = dict(serializers or {})
    others = {name: one for name, one in BUILT_IN.items() if _LITDATA_OWN.get(name) is not one}
    return {**given, **{name: one for name, one in others.items() if name not in given}}


def reader_of(name: str, serializers: Mapping[str, Serializer]) -> Any:
    """Return the function that reads leaves of a format from its bytes, None where no serializer is for it.

    Args:
        name: as the index has it, such as `tensor` or `audio:wav`; what stands behind the colon may name a
            serializer, too, and then goes first.
        serializers: by name.
    """
    kind, _, detail = name.partition(":")
    found = serializers.get(detail) or serializers.get(kind) if detail else serializers.get(name)
    if found is None:
        return None
    own = deepcopy(found)
    own.setup(name)
    return own.deserialize
