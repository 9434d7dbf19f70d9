"""The door to `codecs`: the reader for an annotation, and JSON."""

from typing import Any

from blixt.serve.codecs import Buffer, Reader, is_json, media_of
from blixt.serve.codecs.answers import to_json
from blixt.serve.codecs.arrays import array_reader, is_array
from blixt.serve.codecs.forms import FORM_MEDIA, Form, UploadFile, read_form
from blixt.serve.codecs.images import is_image, read_image
from blixt.serve.codecs.json import plain, typed, untyped
from blixt.serve.errors import HTTPError
from blixt.serve.request import Meta

__all__ = ["Reader", "decoder_for", "to_json"]


def decoder_for(annotation: Any, where: str, zero_copy: bool = False) -> Reader:
    """The function that reads a request's body as `annotation`.

    Args:
        annotation: A type, or Any.
        where: The hook, for errors.
        zero_copy: What is read may point into the body, which may be shared memory.

    Raises:
        ConfigError: No codec can.
    """
    if is_array(annotation):
        return array_reader(annotation, zero_copy)
    if is_image(annotation):
        return read_image
    if annotation in (bytes, bytearray):
        return _raw(annotation)
    keeping = {Any: untyped, memoryview: _raw(memoryview), Form: _form, UploadFile: _file}.get(annotation)
    if keeping is None:
        return typed(annotation, where)
    return keeping if zero_copy else _owning(keeping)


def _owning(read: Reader) -> Reader:
    """Before something keeps pieces of a body in shared memory, copy it; JSON keeps none."""

    def read_owned(body: Buffer, meta: Meta | None) -> Any:
        return read(body if isinstance(body, bytes) else bytes(body), meta)

    def read_untyped(body: Buffer, meta: Meta | None) -> Any:
        if meta is None or is_json(media_of(meta)[0]):
            return plain(body)
        return read_owned(body, meta)

    return read_untyped if read is untyped else read_owned


def _raw(kind: Any) -> Reader:
    def read(body: Buffer, meta: Meta | None) -> Any:
        return kind(body)

    return read


def _form(body: Buffer, meta: Meta | None) -> Form:
    media, parameters = media_of(meta)
    if media not in FORM_MEDIA:
        raise HTTPError(415, "Send a form: multipart/form-data or application/x-www-form-urlencoded.")
    return read_form(body, media, parameters)


def _file(body: Buffer, meta: Meta | None) -> UploadFile:
    media, parameters = media_of(meta)
    if media not in FORM_MEDIA:
        return UploadFile("", media or "application/octet-stream", memoryview(body))
    files = read_form(body, media, parameters).files()
    if not files:
        raise HTTPError(422, "The form holds no file.")
    return files[0]
