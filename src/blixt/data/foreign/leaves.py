"""Stored values that several formats share: images, arrays, JSON; decoded, or as our writer keeps them."""

import io
import json
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from blixt.data.codecs import codec_for
from blixt.data.errors import FormatError
from blixt.data.foreign.optional import need
from blixt.data.types import Audio, Image, Jpeg, Json, Png, Tiff, Video

Decode = Callable[[bytes], Any]
_SAFE_PICKLES = {pickle.dumps(value, level): value for value in (None, True, False) for level in range(6)}
_PIL_HEADER = np.dtype("<u4").itemsize * 3


def image(data: bytes) -> np.ndarray[Any, Any]:
    """Decode a JPEG, PNG, WebP ... file into a uint8 array `[height, width, channels]`."""
    return codec_for("image", None).decode(memoryview(data))


def raw_image(data: bytes) -> np.ndarray[Any, Any]:
    """Decode Pillow's pixels (u32 width, height, length of the mode's name; the name; the pixels)."""
    width, height, mode_length = np.frombuffer(data[:_PIL_HEADER], "<u4").tolist()
    pixels = _PIL_HEADER + mode_length
    mode = bytes(data[_PIL_HEADER:pixels]).decode()
    return np.asarray(need("PIL.Image", "media").frombytes(mode, (width, height), bytes(data[pixels:])))


IMAGES = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "ppm", "pgm", "pbm", "tif", "tiff")
SOUNDS = ("wav", "flac", "ogg", "mp3")
VIDEOS = ("mp4", "avi", "mov", "mkv", "webm", "mpg", "mpeg")
_WRAPPERS: dict[str, Decode] = {
    **dict.fromkeys(IMAGES, Image),
    **dict.fromkeys(("jpg", "jpeg"), Jpeg),
    "png": Png,
    **dict.fromkeys(("tif", "tiff"), Tiff),
    **dict.fromkeys(SOUNDS, Audio),
    **dict.fromkeys(VIDEOS, Video),
    **dict.fromkeys(("json", "jsn"), lambda data: Json(json_value(data))),
}


def keeper(extension: str) -> Decode | None:
    """Return the function that hands a file's bytes to our writer as what they are, None for plain bytes."""
    return _WRAPPERS.get(extension)


def text(data: bytes) -> str:
    """Decode UTF-8."""
    return bytes(data).decode()


def json_value(data: bytes) -> Any:
    """Decode JSON."""
    return json.loads(bytes(data))


def npy(data: bytes) -> np.ndarray[Any, Any]:
    """Decode a .npy file; one that holds Python objects is refused."""
    return np.load(io.BytesIO(data), allow_pickle=False)


def plain_json(value: Any) -> Json:
    """Wrap a nested value as JSON; times and decimals become text."""
    return Json(json.loads(json.dumps(value, default=str)))


class _Plain(pickle.Unpickler):
    """Reads what is made of dicts, lists, tuples, sets, texts, bytes and numbers: nothing with a name."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        raise pickle.UnpicklingError(f"it holds a {module_name}.{global_name}")


def plain_pickle(data: bytes) -> Any:
    """Decode a pickle of plain values; no code of its author can run.

    Raises:
        FormatError: when it holds anything else, or is damaged.
    """
    try:
        return _Plain(io.BytesIO(data)).load()
    except Exception as problem:  # a damaged pickle may raise anything
        raise FormatError(f"a pickle that should hold plain values cannot be read: {problem}") from None


def unpickle(data: bytes, allow_pickle: bool, where: str) -> Any:
    """Decode a pickle; None, True and False always, anything else only when asked.

    Raises:
        FormatError: when `allow_pickle` is False.
    """
    data = bytes(data)
    if data in _SAFE_PICKLES:
        return _SAFE_PICKLES[data]
    if not allow_pickle:
        raise FormatError(
            f"{where} is a pickle, which can run any code when it is read; pass allow_pickle=True if you "
            "trust whoever wrote it"
        )
    return pickle.loads(data)
