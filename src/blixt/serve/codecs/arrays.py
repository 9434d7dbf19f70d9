"""Arrays in bodies: .npy files, raw numbers, pictures, or JSON lists. numpy is imported when one comes."""

import io
import sys
from typing import Any, get_args, get_origin

from blixt.serve.codecs import Buffer, Reader, is_json, media_of
from blixt.serve.codecs.forms import FORM_MEDIA, read_form
from blixt.serve.codecs.json import untyped
from blixt.serve.codecs.npy import NPY
from blixt.serve.errors import HTTPError
from blixt.serve.request import Meta

_MAGIC = b"\x93NUMPY"


def is_array(annotation: Any) -> bool:
    """Whether an annotation is `numpy.ndarray`, an `NDArray[...]` or `torch.Tensor`."""
    return _array_dtype(annotation) is not None or _is_tensor(annotation)


def array_reader(annotation: Any, zero_copy: bool = False) -> Reader:
    """The reader for an array annotation; the array is the caller's own unless `zero_copy`.

    Bodies: `application/x-npy`; `application/octet-stream; dtype=float32; shape=3,224,224` (the parameters
    default to uint8 and one dimension); `image/*` (as height, width, channels); a form's first file, which
    is one of these; JSON lists of equal lengths.
    """
    tensor = _is_tensor(annotation)
    dtype = None if tensor else _array_dtype(annotation) or None

    def read(body: Buffer, meta: Meta | None) -> Any:
        array = _array(body, meta)
        if dtype is not None and array.dtype != dtype:
            array = array.astype(dtype)
        if not array.flags.writeable and (tensor or not zero_copy):
            array = array.copy()
        return sys.modules["torch"].from_numpy(array) if tensor else array

    return read


def _is_tensor(annotation: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and annotation is torch.Tensor


def _array_dtype(annotation: Any) -> Any:
    """None if it is no array type; False if it is one of any dtype."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    if annotation is numpy.ndarray:
        return False
    if get_origin(annotation) is not numpy.ndarray:
        return None
    scalar = get_args(get_args(annotation)[1])
    known = scalar and isinstance(scalar[0], type) and not scalar[0].__name__.startswith(("generic", "Any"))
    return numpy.dtype(scalar[0]) if known else False


def _array(body: Buffer, meta: Meta | None) -> Any:
    media, parameters = media_of(meta)
    if media in FORM_MEDIA:
        files = read_form(body, media, parameters).files()
        if not files:
            raise HTTPError(422, "The form holds no file to read an array from.")
        return _array(files[0].view, Meta(content_type=files[0].content_type or "application/octet-stream"))
    if bytes(body[:6]) == _MAGIC:
        return _read_npy(body)
    if media.startswith("image/"):
        from blixt.serve.codecs.images import open_image

        return _numpy().asarray(open_image(body))
    if is_json(media):
        return _from_lists(untyped(body, None))
    if media == NPY:
        raise HTTPError(422, "The body is not a .npy file.")
    return _raw(body, parameters)


def _numpy() -> Any:
    import numpy

    return numpy


def _read_npy(body: Buffer) -> Any:
    from numpy.lib import format

    np, file = _numpy(), io.BytesIO(bytes(body[:65536]))
    try:
        header = (
            format.read_array_header_1_0
            if format.read_magic(file) == (1, 0)
            else format.read_array_header_2_0
        )
        shape, fortran, dtype = header(file)
        if dtype.hasobject:
            raise ValueError("it holds Python objects")
        count = 1
        for length in shape:
            count *= length
        flat = np.frombuffer(body, dtype, count, file.tell())
        return flat.reshape(shape, order="F" if fortran else "C")
    except (ValueError, TypeError, EOFError) as error:
        raise HTTPError(422, f"The body is not a readable .npy file: {error}") from None


def _raw(body: Buffer, parameters: dict[str, str]) -> Any:
    try:
        flat = _numpy().frombuffer(body, parameters.get("dtype", "uint8"))
        if "shape" not in parameters:
            return flat
        return flat.reshape([int(length) for length in parameters["shape"].split(",")])
    except (ValueError, TypeError) as error:
        raise HTTPError(422, f"The body does not hold the array its content type tells of: {error}") from None


def _from_lists(value: Any) -> Any:
    if not isinstance(value, list | int | float):
        raise HTTPError(422, "Send an array: a .npy file, raw numbers with dtype and shape, or JSON lists.")
    try:
        array = _numpy().asarray(value)
    except ValueError as error:
        raise HTTPError(422, f"The lists do not make an array: {error}") from None
    if array.dtype.kind not in "biuf":
        raise HTTPError(422, "The lists hold something that is no number.")
    return array
