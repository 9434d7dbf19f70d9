"""Types of fields that several bodies share."""

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Body(BaseModel):
    """A request's body: unknown fields and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True)


def _plain_json(value: dict[str, Any]) -> dict[str, Any]:
    try:
        size = len(json.dumps(value, ensure_ascii=False, allow_nan=False).encode())
    except (ValueError, RecursionError) as error:
        raise ValueError("must hold only plain JSON: no NaN, no infinity, no broken characters") from error
    if size > 262_144:
        raise ValueError("is larger than 256 KiB")
    return value


JsonObject = Annotated[dict[str, Any], AfterValidator(_plain_json)]
"""Free-form JSON that can be stored and sent again."""

RunId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
"""An id chosen by the client, such as a job's name."""

Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
