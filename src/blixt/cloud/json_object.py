"""JSON from outside, where only an object will do."""

import json
from typing import Any, cast


def json_object(text: str | bytes) -> dict[str, Any] | None:
    """The object that a text holds; None when it is no JSON, or something else than an object.

    >>> json_object('{"a": 1}'), json_object("[1]"), json_object("{")
    ({'a': 1}, None, None)
    """
    try:
        value: object = json.loads(text)
    except ValueError:
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None
