"""Streamed pieces: how a worker hands them to the front, and what the client gets."""

import base64
import json
from typing import Any

import msgspec

UNHANDLED = "Internal server error"
"""What a client is told of what a hook raised, besides HTTP errors."""


def to_line(data: Any) -> Any:
    """Dicts and pydantic models as a line of JSON, anything else as it is."""
    if isinstance(data, dict):
        return json.dumps(data) + "\n"
    dump = getattr(data, "model_dump_json", None)
    return data if dump is None else f"{dump()}\n"


def wrap(piece: Any) -> Any:
    """A piece as JSON can carry it."""
    if isinstance(piece, bytes | bytearray):
        return {"base64": base64.b64encode(piece).decode()}
    return piece if isinstance(piece, str) else str(piece)


def unwrap(data: str) -> bytes:
    """The bytes for the client."""
    value = msgspec.json.decode(data)
    return value.encode() if isinstance(value, str) else base64.b64decode(value["base64"])
