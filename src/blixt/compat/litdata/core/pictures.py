"""LitData's typed wrappers of images, turned into ours when written."""

import io
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from blixt.compat.litdata.core.media import Media
from blixt.data import types

_CAP = 95
_STANDARD_MEAN = 57.625
"""The mean of the luminance table that JPEG's standard suggests, which is quality 50."""


@dataclass
class Image(Media):
    """An image: a file, an array (or tensor) or a PIL image.

    Args:
        mode: PIL's name of the colours to convert to.
        format: how an array or a PIL image is stored; PNG when None.
        quality: encode as JPEG of this quality, a file too.
        max_quality: encode as JPEG of this quality, but keep a JPEG that is no better.

    Raises:
        ValueError: for both qualities at once.
    """

    array: Any = None
    image: Any = None
    mode: str | None = None
    format: str | None = None
    quality: int | None = None
    max_quality: int | None = None

    def __post_init__(self) -> None:
        if self.quality is not None and self.max_quality is not None:
            kind = type(self).__name__
            raise ValueError(f"{kind}.quality and {kind}.max_quality are mutually exclusive.")

    def stored(self) -> Any:
        """Return what our writer takes."""
        picture = self._given()
        if picture is None:
            if self._keeps(self.data()):
                return self._wrapped(self.content())
            picture = _opened(self.data())
        picture = picture.convert(self.mode) if self.mode else picture
        quality = self.quality or self.max_quality
        kind = self.format or ("JPEG" if quality else self._default)
        kind = "JPEG" if kind.upper() == "JPG" else kind
        out = io.BytesIO()
        if kind.upper() == "JPEG":
            picture = picture if picture.mode in ("L", "RGB", "CMYK") else picture.convert("RGB")
            picture.save(out, kind, quality=quality or _CAP)
        else:
            picture.save(out, kind)
        return self._wrapped(out.getvalue())

    _default = "PNG"

    def _wrapped(self, content: Any) -> Any:
        return types.Image(content)

    def _keeps(self, content: bytes) -> bool:
        """Whether a file stays as it is."""
        if self.mode or self.format or self.quality is not None:
            return False
        return self.max_quality is None or jpeg_quality(content) <= self.max_quality

    def _given(self) -> Any:
        if self.image is not None:
            return self.image
        if self.array is None:
            return None
        from PIL import Image as Pillow

        return Pillow.fromarray(np.asarray(self.array))


@dataclass
class Jpeg(Image):
    """A JPEG; what is none becomes one of quality 95, and what is better too, unless a quality is given."""

    _default = "JPEG"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.quality is None and self.max_quality is None:
            self.max_quality = _CAP

    def _wrapped(self, content: Any) -> Any:
        return types.Jpeg(content)


@dataclass
class Pil(Image):
    """An image that is read back as a PIL image."""

    def _wrapped(self, content: Any) -> Any:
        return types.Png(content)

    def _keeps(self, content: bytes) -> bool:
        return False


@dataclass
class JpegArray:
    """Several JPEGs, with the same rules of quality; every sample must have as many."""

    images: list[Any] = field(default_factory=list[Any])
    quality: int | None = None
    max_quality: int | None = None

    def stored(self) -> Any:
        """Return what our writer takes."""
        return [self._jpeg(image).stored() for image in self.images]

    def _jpeg(self, image: Any) -> Jpeg:
        if isinstance(image, Jpeg):
            return image
        rules: dict[str, Any] = {"quality": self.quality, "max_quality": self.max_quality}
        if isinstance(image, Image):
            return Jpeg(image.path, image.bytes, image.array, image.image, image.mode, **rules)
        if isinstance(image, (bytes, bytearray)):
            return Jpeg(bytes=bytes(image), **rules)
        if isinstance(image, str):
            return Jpeg(path=image, **rules)
        return Jpeg(**{"image" if hasattr(image, "getbands") else "array": image}, **rules)


def jpeg_quality(content: bytes) -> int:
    """Return the quality with which a file was encoded, from its table of luminance; 101 for no JPEG.

    libjpeg scales the standard's table: by 5000 / quality percent below 50, by 200 - 2 * quality above. Below
    25 it clips the largest numbers, so that what is found there is a few too high.
    """
    image = _opened(content)
    tables = cast("dict[int, list[int]]", getattr(image, "quantization", {}))
    if image.format not in ("JPEG", "MPO") or not tables:
        return 101
    percent = 100 * float(np.mean(tables[0])) / _STANDARD_MEAN
    return round(5000 / percent if percent > 100 else (200 - percent) / 2)


def _opened(content: bytes) -> Any:
    from PIL import Image as Pillow

    return Pillow.open(io.BytesIO(content))
