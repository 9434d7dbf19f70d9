"""How LitData encodes and decodes images: which files stay as they are, and how pixels become files."""

import io
import os
import warnings
from typing import Any, cast

import numpy as np
import torch

_STANDARD_MEAN = 57.625
"""The mean of the luminance table that JPEG's standard suggests, which is quality 50."""
_NO_JPEG = 101
_ORIENTATION = 0x0112
_GREY = tuple(map(np.dtype, ("?", "u1", "u2", "i2", "u4", "i4", "f4", "f8")))


def jpeg_quality(content: bytes) -> int:
    """Return the quality with which a file was encoded, from its table of luminance; 101 for no JPEG.

    libjpeg scales the standard's table: by 5000 / quality percent below 50, by 200 - 2 * quality above. Below
    25 it clips the largest numbers, so that what is found there is a few too high.
    """
    if not content.startswith(b"\xff\xd8"):
        return _NO_JPEG
    tables = cast("dict[int, list[int]]", getattr(opened(content), "quantization", {}))
    if not tables:
        return _NO_JPEG
    percent = 100 * float(np.mean(tables[0])) / _STANDARD_MEAN
    return round(5000 / percent if percent > 100 else (200 - percent) / 2)


def opened(content: Any) -> Any:
    """Return a file as a PIL image, whose pixels are not decoded yet."""
    from PIL import Image

    return Image.open(io.BytesIO(content))


def chw(content: Any) -> torch.Tensor:
    """Decode an image file to a uint8 tensor `[3, height, width]`, a JPEG turned as its EXIF tag says."""
    from PIL import ImageOps

    image = opened(content)
    if image.format in ("JPEG", "MPO") and image.getexif().get(_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    pixels = np.asarray(image.convert("RGB"))
    return torch.as_tensor(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def saved(image: Any, kind: str, quality: int | None = None, mode: str | None = None) -> tuple[bytes, str]:
    """Return a PIL image as a file, and the file's extension."""
    image = image.convert(mode) if mode and image.mode != mode else image
    kind = "JPEG" if kind.upper() in ("JPG", "JPEG") else kind.upper()
    if kind == "JPEG" and image.mode not in ("RGB", "L"):
        image = image.convert("RGB")
    out = io.BytesIO()
    image.save(out, kind, **({"quality": quality} if quality and kind in ("JPEG", "WEBP") else {}))
    return out.getvalue(), "jpg" if kind == "JPEG" else kind.lower()


def picture_of(array: Any) -> Any:
    """Return an array or tensor as a PIL image; types that Pillow does not know become ones that it does.

    With three dimensions that is uint8, where floats up to 1 are stretched to 255.

    Raises:
        TypeError: for grey values of a type that cannot be made smaller, such as complex.
    """
    from PIL import Image

    pixels = array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else np.asarray(array)
    if pixels.ndim >= 3:
        if pixels.dtype.kind == "f" and float(np.nanmax(pixels)) <= 1.0:
            return Image.fromarray((np.clip(pixels, 0.0, 1.0) * 255.0).astype(np.uint8))
        return Image.fromarray(_smaller(pixels, np.dtype(np.uint8)))
    if pixels.dtype in _GREY:
        return Image.fromarray(pixels)
    fitting = [kind for kind in _GREY if kind.kind == pixels.dtype.kind and kind.itemsize < pixels.itemsize]
    if not fitting:
        raise TypeError(f"Cannot downcast dtype {pixels.dtype} to a Pillow-compatible image dtype.")
    return Image.fromarray(_smaller(pixels, max(fitting, key=lambda kind: kind.itemsize)))


def _smaller(pixels: np.ndarray[Any, Any], kind: np.dtype[Any]) -> np.ndarray[Any, Any]:
    if pixels.dtype != kind:
        warnings.warn(f"Downcasting array dtype {pixels.dtype} to {kind} for image encoding.", stacklevel=4)
    return pixels.astype(kind)


def kind_of(image: Any) -> str:
    """Return the format in which a PIL image is stored: its own, else PNG, or TIFF for odd colours."""
    if getattr(image, "format", None):
        return str(image.format)
    return "PNG" if image.mode in ("1", "L", "LA", "RGB", "RGBA") else "TIFF"


def file_behind(image: Any) -> bytes | None:
    """Return the JPEG that a PIL image was read from, where it is still there."""
    name = str(getattr(image, "filename", "") or "")
    if not name.lower().endswith((".jpg", ".jpeg")) or not os.path.isfile(name):
        return None
    with open(name, "rb") as file:
        return file.read()
