"""Codecs of the column types that are stored as bytes: a file per family, libraries imported when used."""

from collections.abc import Mapping

from blixt.data.codecs.arrays import ArrayCodec, TensorCodec
from blixt.data.codecs.audio import AudioCodec
from blixt.data.codecs.graphs import GraphCodec
from blixt.data.codecs.images import ImageCodec, JpegCodec, PngCodec, TiffCodec
from blixt.data.codecs.plain import BytesCodec, FileCodec, JsonCodec, PickleCodec, TextCodec
from blixt.data.codecs.video import VideoCodec
from blixt.data.errors import FormatError
from blixt.data.types import Codec

USER = "user:"
"""What the type of a column in a codec of the user's own begins with."""
_CODECS: dict[str, Codec] = {
    codec.name: codec
    for codec in (
        TextCodec(),
        BytesCodec(),
        JsonCodec(),
        JpegCodec(),
        PngCodec(),
        TiffCodec(),
        ImageCodec(),
        AudioCodec(),
        VideoCodec(),
        GraphCodec(),
        FileCodec(),
        PickleCodec(),
    )
}
ALWAYS_DECODED = frozenset(("utf8", "bytes", "json", "array", "tensor"))
"""Variable types that are decoded even when a reader says `decode=False`."""
VARIABLE_TYPES = frozenset((*_CODECS, "array", "tensor"))

__all__ = [
    "ALWAYS_DECODED",
    "USER",
    "VARIABLE_TYPES",
    "ImageCodec",
    "JpegCodec",
    "PngCodec",
    "TiffCodec",
    "codec_for",
]


def codec_for(type_name: str, dtype: str | None, user: Mapping[str, Codec] | None = None) -> Codec:
    """Return the codec of a variable column.

    Args:
        type_name: the column's type.
        dtype: the column's dtype, for arrays and tensors.
        user: codecs of the user's own, by name.

    Raises:
        FormatError: when the type is a user's codec that was not given.
    """
    if type_name == "array":
        return ArrayCodec(str(dtype))
    if type_name == "tensor":
        return TensorCodec(str(dtype))
    if not type_name.startswith(USER):
        return _CODECS[type_name]
    name = type_name.removeprefix(USER)
    if user is None or name not in user:
        raise FormatError(
            f"the data is in a codec named {name!r}; pass codecs={{{name!r}: ...}} to decode it, or "
            "decode=False for the stored bytes"
        )
    return user[name]
