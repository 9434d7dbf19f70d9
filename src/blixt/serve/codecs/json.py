"""JSON bodies, and form fields, as validated values: msgspec and pydantic, with FastAPI's shape of errors."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from blixt.serve.codecs import Buffer, Reader, is_json, media_of
from blixt.serve.codecs.forms import FORM_MEDIA, URLENCODED, Form, UploadFile, read_form
from blixt.serve.errors import ConfigError, HTTPError
from blixt.serve.request import Meta

Convert = Callable[[Any], Any]


def untyped(body: Buffer, meta: Meta | None) -> Any:
    """JSON, a `Form`, text or bytes: what the content type says."""
    media, parameters = media_of(meta)
    if is_json(media) or _is_mislabelled(media, body):
        return plain(body)
    if media in FORM_MEDIA:
        return read_form(body, media, parameters)
    if media.startswith("text/"):
        try:
            return bytes(body).decode(parameters.get("charset", "utf-8"))
        except (UnicodeDecodeError, LookupError) as error:
            raise HTTPError(400, f"The body is not text: {error}") from None
    return bytes(body)


def typed(annotation: Any, where: str) -> Reader:
    """The reader for a type that msgspec or pydantic knows.

    Raises:
        ConfigError: Neither knows it; `where` names the hook.
    """
    if hasattr(annotation, "model_validate_json"):
        return _reader(_pydantic_json(annotation), _pydantic_fields(annotation), _byte_fields(annotation))
    try:
        decoder = msgspec.json.Decoder(annotation)
        if isinstance(msgspec.inspect.type_info(annotation), msgspec.inspect.CustomType):
            raise TypeError("it is a class of its own")
    except TypeError as error:
        raise ConfigError(
            f"{where} takes {annotation!r}, which cannot be read from a request body ({error}); annotate it "
            "with a msgspec Struct, a pydantic model, a dataclass, a builtin type, bytes, an array, a "
            "PIL image, Form or UploadFile."
        ) from None
    return _reader(_msgspec_json(decoder), _msgspec_fields(annotation), _byte_fields(annotation))


def _reader(from_json: Convert, from_fields: Convert, byte_fields: frozenset[str]) -> Reader:
    def read(body: Buffer, meta: Meta | None) -> Any:
        if meta is None or not meta.content_type:
            return from_json(body)
        media, parameters = media_of(meta)
        if is_json(media) or _is_mislabelled(media, body):
            return from_json(body)
        if media not in FORM_MEDIA:
            raise HTTPError(415, f"A body of type {media!r} is not understood here; send JSON or a form.")
        return from_fields(_fields(read_form(body, media, parameters), byte_fields))

    return read


def _is_mislabelled(media: str, body: Buffer) -> bool:
    """`curl -d` calls everything a form; no form begins like a JSON object or list."""
    return media == URLENCODED and bytes(body[:1]) in (b"{", b"[")


def _fields(form: Form, byte_fields: frozenset[str]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in form.items():
        every: list[Any] = form.get_all(name)
        if name in byte_fields:
            every = [item.read() if isinstance(item, UploadFile) else item.encode() for item in every]
            value = every[-1]
        out[name] = every if len(every) > 1 else value
    return out


def _byte_fields(annotation: Any) -> frozenset[str]:
    """Fields that want a file's bytes rather than the file."""
    fields: Mapping[str, Any] = getattr(annotation, "__annotations__", {})
    return frozenset(name for name, hint in fields.items() if hint in (bytes, "bytes"))


_any = msgspec.json.Decoder()


def plain(body: Buffer) -> Any:
    """JSON of any shape.

    Raises:
        HTTPError: 400, it is none.
    """
    try:
        return _any.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HTTPError(400, f"The body is not valid JSON: {error}") from None


def _msgspec_json(decoder: "msgspec.json.Decoder[Any]") -> Convert:
    decode = decoder.decode

    def read(body: Buffer) -> Any:
        try:
            return decode(body)
        except msgspec.ValidationError as error:
            raise HTTPError(422, [validation_item(str(error))]) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise HTTPError(400, f"The body is not valid JSON: {error}") from None

    return read


def _msgspec_fields(annotation: Any) -> Convert:
    def convert(fields: Any) -> Any:
        try:
            return msgspec.convert(fields, annotation, strict=False, builtin_types=(bytes,))
        except msgspec.ValidationError as error:
            raise HTTPError(422, [validation_item(str(error))]) from None

    return convert


def _pydantic_json(model: Any) -> Convert:
    import pydantic

    validate = model.model_validate_json

    def read(body: Buffer) -> Any:
        try:
            return validate(body if isinstance(body, bytes) else bytes(body))
        except pydantic.ValidationError as error:
            raise _pydantic_error(error) from None

    return read


def _pydantic_fields(model: Any) -> Convert:
    import pydantic

    def convert(fields: Any) -> Any:
        try:
            return model.model_validate(fields)
        except pydantic.ValidationError as error:
            raise _pydantic_error(error) from None

    return convert


def _pydantic_error(error: Any) -> HTTPError:
    items = error.errors(include_url=False, include_context=False, include_input=False)
    if items[0]["type"] == "json_invalid":
        return HTTPError(400, f"The body is not valid JSON: {items[0]['msg']}")
    return HTTPError(422, [{**item, "loc": ["body", *item["loc"]]} for item in items])


def validation_item(message: str) -> dict[str, Any]:
    """One entry in FastAPI's shape, from msgspec's "Expected `int`, got `str` - at `$.items[2].n`"."""
    text, _, path = message.partition(" - at `")
    loc: list[str | int] = ["body"]
    for part in path.rstrip("`").lstrip("$").replace("[", ".[").split("."):
        if part.startswith("["):
            index = part.strip("[]")
            loc.append(int(index) if index.isdigit() else index)
        elif part:
            loc.append(part)
    missing = "missing required field `"
    if missing in text:
        loc.append(text.split(missing)[1].rstrip("`"))
    return {"type": "missing" if missing in text else "type_error", "loc": loc, "msg": text}
