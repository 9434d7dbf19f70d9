"""What hooks return, as bytes on the wire. How a type is written is decided when its first value comes."""

import io
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from blixt.serve.codecs.npy import NPY, npy
from blixt.serve.wire import Kind, join_reply

Answer = tuple[int, bytes]
MAX_WRITERS = 1000
_BYTES: Any = (bytes, bytearray, memoryview)
Write = Callable[[Any], Answer]


class Reply:
    """An answer with a status, headers or a media type of its own; return it from `encode_response`.

    Args:
        body: JSON-able, or `bytes`, or text; an array or a tensor, if `media_type` is "application/x-npy".
        status: HTTP status.
        headers: Extra headers.
        media_type: Of the body; by default JSON, or octet-stream for `bytes`, or plain text for `str`.
    """

    __slots__ = ("body", "headers", "media_type", "status")

    def __init__(
        self,
        body: Any = b"",
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
    ) -> None:
        self.body = body
        self.status = status
        self.headers = dict(headers or {})
        self.media_type = media_type


def _extra(value: Any) -> Any:
    """What msgspec does not know: pydantic models, arrays and tensors, generators."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "__iter__"):
        return list(value)
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")


_encoder = msgspec.json.Encoder(enc_hook=_extra)
to_json: Callable[[Any], bytes] = _encoder.encode
_ok, _raw, _reply = int(Kind.OK), int(Kind.RAW), int(Kind.REPLY)


def write(value: Any) -> Answer:
    """An answer's kind and payload.

    Raises:
        TypeError: Its type cannot be written.
    """
    writer = _writers.get(value.__class__)
    if writer is None:
        if len(_writers) >= MAX_WRITERS:
            _writers.clear()  # somebody makes a class for each answer
        writer = _writers[value.__class__] = _writer_for(value)
    return writer(value)


def _write_json(value: Any) -> Answer:
    return _ok, to_json(value)


def _write_bytes(value: Any) -> Answer:
    return _raw, bytes(value)


def _write_reply(reply: Reply) -> Answer:
    body, media = reply.body, "application/json"
    if isinstance(body, _BYTES):
        body, media = bytes(body), "application/octet-stream"
    elif isinstance(body, str) and reply.media_type is not None:
        body = body.encode()
    elif reply.media_type == NPY:
        body = npy(body)
    else:
        body = to_json(body)
    headers = {"content-type": reply.media_type or media}
    headers.update((name.lower(), value) for name, value in reply.headers.items())
    return _reply, join_reply(reply.status, headers, body)


def _write_response(response: Any) -> Answer:
    """A Starlette or FastAPI response."""
    headers = {name: value for name, value in response.headers.items() if name.lower() != "content-length"}
    return _reply, join_reply(response.status_code, headers, bytes(response.body))


def _write_image(image: Any) -> Answer:
    out = io.BytesIO()
    image.save(out, "PNG")
    return _reply, join_reply(200, {"content-type": "image/png"}, out.getvalue())


def _writer_for(value: Any) -> Write:
    if isinstance(value, Reply):
        return _write_reply
    if isinstance(value, _BYTES):
        return _write_bytes
    if all(hasattr(value, name) for name in ("status_code", "body", "headers", "media_type")):
        return _write_response
    if type(value).__module__.startswith("PIL.") and hasattr(value, "save"):
        return _write_image
    return _write_json


_writers: dict[type, Write] = {}
