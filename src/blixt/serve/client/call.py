"""One call as data: what is sent, and what the answer means. Shared by both clients."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import httpx
import msgspec

from blixt.serve.client.errors import RemoteError, StreamBroken
from blixt.serve.client.events import Event
from blixt.serve.codec import to_json
from blixt.serve.codecs.npy import NPY, npy

T = TypeVar("T")
Files = Mapping[str, Any]
"""Form field -> path, open binary file, bytes, or `(name, content[, content type])`."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request, ready to be sent as often as needed."""

    url: str
    headers: dict[str, str]
    content: bytes | None = None
    form: dict[str, str] | None = None
    files: list[tuple[str, Any]] = field(default_factory=list[tuple[str, Any]])

    def build(self, client: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """The request for one attempt."""
        if self.files:
            return client.build_request(
                "POST", self.url, headers=self.headers, data=self.form, files=self.files
            )
        return client.build_request("POST", self.url, headers=self.headers, content=self.content)


def make_call(
    url: str, body: Any, files: Files | None, headers: Mapping[str, str], accept: str = "application/json"
) -> Call:
    """What to send for a body.

    `bytes` go as they are, a numpy array in numpy's own format, anything else as JSON (msgspec Structs,
    dataclasses and pydantic models too); with `files`, the body's items become fields of a multipart form.
    """
    sent = {"accept": accept, **headers}
    if files is not None:
        fields = dict(body or {})
        form = {
            key: value if isinstance(value, str) else to_json(value).decode() for key, value in fields.items()
        }
        return Call(url, sent, form=form, files=[(name, _file(value)) for name, value in files.items()])
    if isinstance(body, bytes | bytearray):
        sent.setdefault("content-type", "application/octet-stream")
        return Call(url, sent, bytes(body))
    if type(body).__module__ == "numpy" and hasattr(body, "__array_interface__"):
        sent.setdefault("content-type", NPY)
        return Call(url, sent, npy(body))
    sent.setdefault("content-type", "application/json")
    return Call(url, sent, to_json(body))


def _file(value: Any) -> Any:
    """What httpx sends as a file; read into memory, so that a second attempt sends the same."""
    if isinstance(value, tuple):
        name, content, *kind = cast(tuple[Any, ...], value)
        return (name, _content(content), *kind)
    name = getattr(value, "name", None)
    return (str(name).rsplit("/", 1)[-1] if isinstance(name, str) else "file", _content(value))


def _content(value: Any) -> bytes:
    if hasattr(value, "read_bytes"):
        return value.read_bytes()
    return value.read() if hasattr(value, "read") else bytes(value)


def decode(answer: httpx.Response, returns: type[T] | None) -> T | Any:
    """The value of a good answer.

    Raises:
        RemoteError: It does not fit `returns`.
    """
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if kind == NPY:
        import io

        import numpy as np

        return np.load(io.BytesIO(answer.content), allow_pickle=False)
    if kind != "application/json":
        return answer.content if not kind.startswith("text/") else answer.text
    return decode_json(answer.content, returns, str(answer.request.url))


def decode_json(data: bytes | str, returns: type[T] | None, url: str) -> T | Any:
    """JSON as `returns`: a msgspec Struct, dataclass, pydantic model or builtin type; None for plain values.

    Raises:
        RemoteError: The value is of another shape.
    """
    if returns is None:
        return msgspec.json.decode(data)
    validate = getattr(returns, "model_validate_json", None)
    try:
        return validate(data) if validate is not None else msgspec.json.decode(data, type=returns)
    except ValueError as error:
        raise RemoteError(200, f"the answer is no {returns.__name__}: {error}", url=url) from None


def remote_error(answer: httpx.Response, body: bytes) -> RemoteError:
    """An answer that is an error; its detail wherever FastAPI or OpenAI put it."""
    detail: Any = body.decode("utf-8", "replace") or answer.reason_phrase
    try:
        value: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        value = None
    if isinstance(value, dict):
        found = cast(dict[str, Any], value)
        detail = found.get("detail", detail)
        error = found.get("error")
        if isinstance(error, dict):
            detail = cast(dict[str, Any], error).get("message", detail)
    return RemoteError(answer.status_code, detail, answer.headers, url=str(answer.request.url))


def piece_of(event: Event, returns: type[T] | None, url: str, pieces: int) -> T | Any:
    """The value of one event of a stream.

    Raises:
        RemoteError: It is an error event.
    """
    if event.name == "error":
        value = msgspec.json.decode(event.data, type=dict[str, Any])
        raise RemoteError(value.get("status", 500), value.get("detail", event.data), url=url, pieces=pieces)
    return decode_json(event.data, returns, url)


def broken(url: str, pieces: int, error: Exception) -> StreamBroken:
    """A stream whose connection ended."""
    return StreamBroken(url, pieces, str(error) or type(error).__name__)
