"""Bodies to Python values and back; the decoder is chosen once from a type annotation."""

from collections.abc import Callable
from typing import Any

import msgspec

from blixt.serve.errors import ConfigError, HTTPError

Decoder = Callable[[bytes], Any]


def decoder_for(annotation: Any, where: str) -> Decoder:
    """The function that reads a request's body as `annotation`.

    Raises:
        ConfigError: Neither msgspec nor pydantic can read that type; `where` names the hook.
    """
    if annotation is bytes:
        return bytes
    validate = getattr(annotation, "model_validate_json", None)
    if validate is not None:
        return _pydantic(validate)
    try:
        decoder = msgspec.json.Decoder(annotation)
        if isinstance(msgspec.inspect.type_info(annotation), msgspec.inspect.CustomType):
            raise TypeError("it is a class of its own")
    except TypeError as error:
        raise ConfigError(
            f"{where} takes {annotation!r}, which cannot be read from a request body ({error}); annotate it "
            "with a msgspec Struct, a pydantic model, a dataclass, a builtin type or bytes."
        ) from None
    return _msgspec(decoder)


def _msgspec(decoder: "msgspec.json.Decoder[Any]") -> Decoder:
    decode = decoder.decode

    def read(body: bytes) -> Any:
        try:
            return decode(body)
        except msgspec.ValidationError as error:
            raise HTTPError(422, [_validation_item(str(error))]) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise HTTPError(400, f"The body is not valid JSON: {error}") from None

    return read


def _pydantic(validate: Callable[[bytes], Any]) -> Decoder:
    import pydantic

    def read(body: bytes) -> Any:
        try:
            return validate(body)
        except pydantic.ValidationError as error:
            items = error.errors(include_url=False, include_context=False, include_input=False)
            if items[0]["type"] == "json_invalid":
                raise HTTPError(400, f"The body is not valid JSON: {items[0]['msg']}") from None
            raise HTTPError(422, [{**item, "loc": ["body", *item["loc"]]} for item in items]) from None

    return read


def _validation_item(message: str) -> dict[str, Any]:
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
