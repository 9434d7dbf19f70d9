"""Streams of lines over HTTP: newline-delimited JSON and server-sent events, split at line feeds only.

httpx's own `iter_lines` also splits at characters such as U+2028, which are legal inside a JSON string.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event.

    Attributes:
        name: The event's name, `message` by default.
        id: Its id, empty when the server gave none.
        data: Its data, decoded from JSON.
    """

    name: str
    id: str
    data: Any


def iter_lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Split chunks of bytes at line feeds, wherever the chunks happen to end."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.rstrip(b"\r").decode("utf-8", "replace")
    if rest:
        yield rest.decode("utf-8", "replace")


def iter_ndjson(chunks: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Decode one JSON object a line; empty lines keep a connection alive and are skipped."""
    for line in iter_lines(chunks):
        if line.strip():
            yield json.loads(line)


def iter_events(chunks: Iterable[bytes]) -> Iterator[Event]:
    """Decode server-sent events; comments (`: keep-alive`) are skipped, an unfinished event is dropped."""
    name, identifier, data = "message", "", list[str]()
    for line in iter_lines(chunks):
        if not line:
            if data:
                yield Event(name, identifier, json.loads("\n".join(data)))
            name, data = "message", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "id":
            identifier = value
        elif field == "data":
            data.append(value)
