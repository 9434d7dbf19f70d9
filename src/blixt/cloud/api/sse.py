"""Server-sent events."""

import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import StreamingResponse

KEEP_ALIVE = ": keep-alive\n\n"
KEEP_ALIVE_S = 15.0


def sse_event(event: str, data: Any, id: int | str | None = None) -> str:
    """Return one event as text.

    >>> sse_event("log", {"text": "hi"}, id=3)
    'id: 3\\nevent: log\\ndata: {"text":"hi"}\\n\\n'
    """
    head = "" if id is None else f"id: {id}\n"
    return f"{head}event: {event}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"


def sse_response(events: AsyncIterator[str]) -> StreamingResponse:
    """Return a response that sends events as they come."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)
