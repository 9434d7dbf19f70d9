"""Types of fields that several bodies share."""

import json
from typing import Annotated, Any, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


class Body(BaseModel):
    """A request's body: unknown fields and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _text_is_unicode(cls, value: object) -> object:
        _refuse_broken_text(value)
        return value


def _refuse_broken_text(value: object) -> None:
    """JSON can carry half a surrogate pair, which no file, database or answer can."""
    waiting: list[object] = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            if not item.isascii() and any("\ud800" <= letter <= "\udfff" for letter in item):
                raise ValueError("the text holds a broken character (half a surrogate pair)")
        elif isinstance(item, dict):
            pairs = cast("dict[object, object]", item)
            waiting += [*pairs.keys(), *pairs.values()]
        elif isinstance(item, list):
            waiting += cast("list[object]", item)


def _plain_json(value: dict[str, Any]) -> dict[str, Any]:
    try:
        size = len(json.dumps(value, ensure_ascii=False, allow_nan=False).encode())
    except (ValueError, RecursionError) as error:
        raise ValueError("must hold only plain JSON, without NaN or infinity") from error
    if size > 262_144:
        raise ValueError("is larger than 256 KiB")
    return value


JsonObject = Annotated[dict[str, Any], AfterValidator(_plain_json)]
"""Free-form JSON that can be stored and sent again."""

RunId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
"""An id chosen by the client, such as a job's name."""

Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
