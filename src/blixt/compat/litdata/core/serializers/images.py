"""Images: as files, as raw pixels of PIL, or several in one leaf."""

import io
import os
import struct
from dataclasses import replace
from importlib import import_module
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch

from blixt.compat.litdata.core.media import Media, Tiff
from blixt.compat.litdata.core.pictures import Image, Jpeg, JpegArray, Pil
from blixt.compat.litdata.core.pixels import chw
from blixt.compat.litdata.core.serializers.base import Serialized, Serializer
from blixt.compat.litdata.core.serializers.files import is_a, is_file, read_file

_TOP_QUALITY = 100


class PILSerializer(Serializer):
    """A PIL image: u32 width, height and length of the mode's name; the name; the pixels."""

    def serialize(self, data: Any) -> Serialized:
        """Return the bytes, and the name of the format where it says more."""
        picture = data.picture() if isinstance(data, Pil) else data
        mode = picture.mode.encode()
        return struct.pack("<3I", *picture.size, len(mode)) + mode + picture.tobytes(), None

    def deserialize(self, data: bytes) -> Any:
        """Return the value."""
        width, height, length = struct.unpack_from("<3I", data)
        mode, pixels = bytes(data[12 : 12 + length]).decode(), bytes(data[12 + length :])
        return import_module("PIL.Image").frombytes(mode, (width, height), pixels)

    def can_serialize(self, data: Any) -> bool:
        """Whether a value is of this kind."""
        return isinstance(data, Pil) or (_is_picture(data) and not _is_jpeg(data))


class JPEGSerializer(Serializer):
    """A JPEG as it is; other PIL images become one of the best quality."""

    def serialize(self, data: Any) -> Serialized:
        """Return the bytes, and the name of the format where it says more."""
        if isinstance(data, Jpeg):
            return data.encoded()[0], None
        if not _is_picture(data):
            raise TypeError(f"The provided item should be of type `JpegImageFile`. Found {data}.")
        name = getattr(data, "filename", None)
        out = io.BytesIO()
        if not _is_jpeg(data):
            data.convert("RGB").save(out, quality=_TOP_QUALITY, format="JPEG")
        elif name is None:
            raise ValueError(
                "The JPEG Image's filename isn't defined."
                "\n HINT: Open the image in your Dataset `__getitem__` method."
            )
        elif name and os.path.isfile(name):
            return read_file(str(name))[0], None
        else:
            data.save(out, format="JPEG")
        return out.getvalue(), None

    def deserialize(self, data: bytes) -> torch.Tensor:
        """Return the value."""
        return chw(data)

    def can_serialize(self, data: Any) -> bool:
        """Whether a value is of this kind."""
        return isinstance(data, Jpeg) or _is_jpeg(data)


class ImageSerializer(Serializer):
    """An image file as it is; the format's name has its extension."""

    _EXTENSIONS = ("jpg", "jpeg", "png", "webp", "bmp", "gif")

    def serialize(self, data: Any) -> Serialized:
        """Return the bytes, and the name of the format where it says more."""
        is_encoded = type(data) is Image and not data.is_plain_file
        content, kind = data.encoded() if is_encoded else read_file(data)
        return content, f"image:{kind or 'jpg'}"

    def deserialize(self, data: bytes) -> torch.Tensor:
        """Return the value."""
        return chw(data)

    def can_serialize(self, data: Any) -> bool:
        """Whether a value is of this kind."""
        return type(data) is Image or is_file(data, self._EXTENSIONS)


class JPEGArraySerializer(Serializer):
    """Several JPEGs: u32 count, u32 lengths, the files."""

    def serialize(self, data: Any) -> Serialized:
        """Return the bytes, and the name of the format where it says more."""
        images = cast("list[Any]", data.images if isinstance(data, JpegArray) else data)
        if not images:
            raise ValueError("JpegArray.images must be a non-empty list.")
        files = [_one(image, data if isinstance(data, JpegArray) else None) for image in images]
        lengths = np.array([len(files), *map(len, files)], np.uint32)
        return lengths.tobytes() + b"".join(files), None

    def deserialize(self, data: bytes) -> list[torch.Tensor]:
        """Return the value."""
        if len(data) < 4:
            raise ValueError("Input data is too short to contain valid list of images")
        count = struct.unpack_from("<I", data)[0]
        if count == 0:
            raise ValueError("Number of images must be positive")
        if len(data) < 4 + 4 * count:
            raise ValueError("Data is too short for the number of images specified")
        ends = 4 + 4 * count + np.cumsum([0, *struct.unpack_from(f"<{count}I", data, 4)])
        return [chw(data[start:end]) for start, end in pairwise(ends)]

    def can_serialize(self, data: Any) -> bool:
        """Whether a value is of this kind."""
        if isinstance(data, JpegArray):
            return True
        return isinstance(data, (list, tuple)) and all(map(_is_jpeg, cast("list[Any]", data)))


class TIFFSerializer(Serializer):
    """A TIFF file; read back as the array that it holds."""

    def serialize(self, data: Any) -> Serialized:
        """Return the bytes, and the name of the format where it says more."""
        if isinstance(data, Tiff) and (data.array is not None or data.image is not None):
            pixels = data.image if data.array is None else data.array
            out = io.BytesIO()
            import_module("tifffile").imwrite(out, np.asarray(pixels))
            return out.getvalue(), "tiff"
        if isinstance(data, (Tiff, dict)):
            return read_file(data)[0], "tiff"
        if not isinstance(data, str) or not os.path.isfile(data):
            raise ValueError(f"The item to serialize must be a valid file path. Received: {data}")
        return read_file(data)[0], None

    def deserialize(self, data: bytes) -> Any:
        """Return the value."""
        return import_module("tifffile").imread(io.BytesIO(data))

    def can_serialize(self, data: Any) -> bool:
        """Whether a value is of this kind."""
        return isinstance(data, Tiff) or (isinstance(data, str) and is_file(data, ("tif", "tiff")))


def _one(image: Any, rules: JpegArray | None) -> bytes:
    """Return one of several images as a file; what the list says of quality goes before what a JPEG says."""
    if isinstance(image, Jpeg):
        if rules is not None and rules.quality is not None:
            image = replace(image, quality=rules.quality, max_quality=None)
        elif rules is not None and rules.max_quality is not None and image.quality is None:
            image = replace(image, max_quality=rules.max_quality)
        return image.encoded()[0]
    if type(image) is Image:
        return image.encoded()[0]
    if isinstance(image, (bytes, bytearray, str, dict, Media)):
        return read_file(cast("Any", image))[0]
    return JPEGSerializer().serialize(image)[0]


def _is_picture(data: Any) -> bool:
    return hasattr(data, "tobytes") and hasattr(data, "getbands")


def _is_jpeg(data: Any) -> bool:
    return is_a(data, "PIL", "JpegImageFile")
