"""JSON schemas of bodies and answers, from annotations: for OpenAPI and for tools over MCP."""

import collections.abc
import typing
from typing import TYPE_CHECKING, Any

import msgspec

from blixt.serve.codecs.arrays import is_array
from blixt.serve.codecs.forms import MULTIPART, Form, UploadFile
from blixt.serve.codecs.images import is_image
from blixt.serve.plan_hooks import is_overridden
from blixt.serve.plan_reader import body_type, hints_of

if TYPE_CHECKING:
    from blixt.serve.api import API

BINARY: dict[str, Any] = {"type": "string", "format": "binary"}
_ITERATORS = (
    collections.abc.Iterator,
    collections.abc.Iterable,
    collections.abc.Generator,
    collections.abc.AsyncIterator,
    collections.abc.AsyncIterable,
    collections.abc.AsyncGenerator,
)


def input_schema(api: "API") -> dict[str, Any] | None:
    """JSON schema of a request's body; None if nothing says. References are `#/$defs/Name`."""
    return _schema(body_type(api))


def output_schema(api: "API") -> dict[str, Any] | None:
    """JSON schema of an answer, or of one piece of a stream; None if nothing says."""
    hook = "encode_response" if is_overridden(api, "encode_response") else "predict"
    hint = hints_of(getattr(api, hook), f"{type(api).__name__}.{hook}").get("return", Any)
    if typing.get_origin(hint) in _ITERATORS:
        hint = typing.get_args(hint)[0]
    if hook == "predict" and api.max_batch_size > 1:
        hint = typing.get_args(hint)[0] if typing.get_origin(hint) is list else Any
    return None if hint in (None, type(None)) else _schema(hint)


def input_media(api: "API") -> str:
    """The content type that a body should have."""
    annotation = body_type(api)
    if annotation in (Form, UploadFile) or _has_files(annotation):
        return MULTIPART
    if annotation in (bytes, bytearray, memoryview):
        return "application/octet-stream"
    return "image/*" if is_image(annotation) else "application/json"


def _has_files(annotation: Any) -> bool:
    fields: dict[str, Any] = getattr(annotation, "__annotations__", {})
    return any(hint in (UploadFile, "UploadFile") for hint in fields.values())


def _schema(annotation: Any) -> dict[str, Any] | None:
    if annotation is Any:
        return None
    if annotation is UploadFile:
        return {"type": "object", "properties": {"file": BINARY}, "required": ["file"]}
    if annotation is Form:
        return {"type": "object", "additionalProperties": True}
    if annotation in (bytes, bytearray, memoryview) or is_image(annotation):
        return BINARY
    if is_array(annotation):
        return {"type": "array", "items": {}}
    if hasattr(annotation, "model_json_schema"):
        return annotation.model_json_schema()
    try:
        return msgspec.json.schema(annotation, schema_hook=_file_schema)
    except TypeError:
        return None  # a class of its own: it can be answered with, but not described


def _file_schema(annotation: Any) -> dict[str, Any]:
    if annotation is UploadFile:
        return BINARY
    raise TypeError(f"{annotation!r} has no JSON schema")
