"""Images: files are stored as they are and decoded to arrays, a JPEG straight into a batch if asked."""

import io
import math
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from blixt.data.codecs.plain import optional, read_bytes
from blixt.data.errors import MissingDependencyError
from blixt.data.types import Image, Jpeg, Png, Tiff, Wrapped

Pixels = npt.NDArray[Any]
MAX_PIXELS = 1 << 28
"""A larger image is taken for damage or an attack."""


class PillowCodec:
    """What Pillow reads, stored as it is."""

    name = "image"
    wrapper: type[Wrapped] = Image
    magic: tuple[bytes, ...] = ()
    format = "PNG"

    def encode(self, value: Any) -> bytes:
        """Return the file's bytes; arrays and PIL images are encoded."""
        if is_pillow(value) and self.wrapper is Image:
            value = Image(value)
        if type(value) is not self.wrapper:
            raise TypeError(f"expected {self.wrapper.__name__}(...), got {type(value).__name__}")
        content: Any = value.value
        if isinstance(content, np.ndarray) or is_pillow(content):
            return self.compress(content, value)
        data = read_bytes(content, self.wrapper.__name__)
        if self.magic and not data.startswith(self.magic):
            raise ValueError(f"these bytes are no {self.name.upper()}: they begin with {data[:8]!r}")
        return data

    def compress(self, content: Any, value: Any) -> bytes:
        """Return an array or a PIL image in this format."""
        image = content if is_pillow(content) else _pillow().fromarray(content)
        out = io.BytesIO()
        image.save(out, self.format)
        return out.getvalue()

    def shape(self, stored: memoryview) -> tuple[int, ...]:
        """Return the shape of the decoded image."""
        with _pillow().open(io.BytesIO(stored)) as image:
            bands = len(image.getbands()) if image.mode != "P" else 3
            return (image.height, image.width) if bands == 1 else (image.height, image.width, bands)

    def decode(self, stored: memoryview) -> Pixels:
        """Return the pixels: uint8 `[H, W, C]`, `[H, W]` where it is grey, uint16 where it has 16 bits."""
        with _pillow().open(io.BytesIO(stored)) as image:
            _check_size(image.height, image.width)
            if image.mode == "P":
                image = image.convert("RGB")
            elif image.mode == "1":
                image = image.convert("L")
            pixels = np.array(image)
            return pixels.astype(np.uint16) if image.mode.startswith("I;16") else pixels

    def decode_into(self, stored: memoryview, out: Pixels) -> None:
        """Decode into an array of the image's shape.

        Raises:
            ValueError: when the shape is another one.
        """
        pixels = self.decode(stored)
        if pixels.shape != out.shape:
            raise ValueError(f"the image has shape {pixels.shape} and the buffer {out.shape}")
        out[...] = pixels


class ImageCodec(PillowCodec):
    """An image file of any kind."""


class PngCodec(PillowCodec):
    """PNG."""

    name = "png"
    wrapper = Png
    magic = (b"\x89PNG\r\n\x1a\n",)


class JpegCodec(PillowCodec):
    """JPEG, always decoded to RGB: by simplejpeg (libjpeg-turbo), or by Pillow where that is missing."""

    name = "jpeg"
    wrapper = Jpeg
    magic = (b"\xff\xd8",)
    format = "JPEG"

    def __init__(self) -> None:
        self._turbo: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Travel without the module."""
        return {"_turbo": None}

    def compress(self, content: Any, value: Any) -> bytes:
        """Return an array or a PIL image as JPEG."""
        image = content if is_pillow(content) else _pillow().fromarray(content)
        out = io.BytesIO()
        image.convert("RGB").save(out, "JPEG", quality=value.quality)
        return out.getvalue()

    def shape(self, stored: memoryview) -> tuple[int, ...]:
        """Return `(H, W, 3)`."""
        turbo = self._turbo or self._load()
        if turbo is None:
            return (*super().shape(stored)[:2], 3)
        height, width, *_ = turbo.decode_jpeg_header(stored)
        return height, width, 3

    def decode(self, stored: memoryview) -> Pixels:
        """Return the pixels, uint8 `[H, W, 3]`."""
        turbo = self._turbo or self._load()
        if turbo is None:
            return self._by_pillow(stored)
        height, width, colours, _ = turbo.decode_jpeg_header(stored)
        _check_size(height, width)
        return self._by_pillow(stored) if colours in ("CMYK", "YCCK") else turbo.decode_jpeg(stored, "RGB")

    def decode_into(self, stored: memoryview, out: Pixels) -> None:
        """Decode straight into a uint8 array `[H, W, 3]`, C-contiguous.

        Raises:
            ValueError: when the image has another shape.
        """
        turbo = self._turbo or self._load()
        if turbo is None:
            super().decode_into(stored, out)
            return
        height, width, colours, _ = turbo.decode_jpeg_header(stored)
        if (height, width, 3) != out.shape:
            raise ValueError(f"the image has shape {(height, width, 3)} and the buffer {out.shape}")
        if colours in ("CMYK", "YCCK"):
            out[...] = self._by_pillow(stored)
        else:
            turbo.decode_jpeg(stored, "RGB", buffer=out)

    def _by_pillow(self, stored: memoryview) -> Pixels:
        with _pillow().open(io.BytesIO(stored)) as image:
            _check_size(image.height, image.width)
            return np.array(image.convert("RGB"))

    def _load(self) -> Any:
        try:
            self._turbo = import_module("simplejpeg")
        except ImportError:
            return None
        return self._turbo


class TiffCodec(PillowCodec):
    """TIFF, by tifffile: any number of pages, channels and bits."""

    name = "tiff"
    wrapper = Tiff
    magic = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

    def compress(self, content: Any, value: Any) -> bytes:
        """Return an array or a PIL image as TIFF."""
        out = io.BytesIO()
        _tifffile().imwrite(out, np.asarray(content), photometric=None)
        return out.getvalue()

    def shape(self, stored: memoryview) -> tuple[int, ...]:
        """Return the shape of the first series of pages."""
        with _tifffile().TiffFile(io.BytesIO(stored)) as file:
            return tuple(file.series[0].shape)

    def decode(self, stored: memoryview) -> Pixels:
        """Return the array of the first series of pages."""
        with _tifffile().TiffFile(io.BytesIO(stored)) as file:
            pages = file.series[0]
            _check_size(*pages.shape)
            try:
                return file.asarray()
            except ValueError as problem:  # LZW, JPEG ...: tifffile leaves them to imagecodecs
                if "imagecodecs" not in str(problem):
                    raise
                return _pages_by_pillow(stored, len(pages.pages), pages.shape, pages.dtype, problem)


def _pages_by_pillow(
    stored: memoryview, count: int, shape: tuple[int, ...], dtype: Any, problem: ValueError
) -> Pixels:
    """Return the first pages of a TIFF as Pillow reads them, if they are what the file says.

    Raises:
        MissingDependencyError: when Pillow cannot read them either.
    """
    pages: list[Pixels] = []
    try:
        with _pillow().open(io.BytesIO(stored)) as image:
            for number in range(count):
                image.seek(number)
                pages.append(np.array(image))
    except OSError:
        pages = []
    if not pages or any(page.dtype != dtype or page.size * count != math.prod(shape) for page in pages):
        raise MissingDependencyError(f"{problem}: pip install imagecodecs") from problem
    return np.stack(pages).reshape(shape)


def is_pillow(value: Any) -> bool:
    """Whether something is a PIL image, asked without importing Pillow."""
    return type(value).__module__.startswith("PIL.") and hasattr(value, "getbands")


def _check_size(*shape: int) -> None:
    pixels = 1
    for side in shape:
        pixels *= side
    if pixels > MAX_PIXELS:
        raise ValueError(f"an image of {' x '.join(map(str, shape))} is larger than {MAX_PIXELS} pixels")


def _pillow() -> Any:
    return optional("PIL.Image", "images need Pillow")


def _tifffile() -> Any:
    return optional("tifffile", "TIFF images need tifffile")
