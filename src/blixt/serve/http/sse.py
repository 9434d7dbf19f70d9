"""Server-sent events: one JSON value a message."""

KEEP_ALIVE = b": keep-alive\n\n"


def event(data: bytes, name: str = "", id: int | None = None) -> bytes:
    """One event. JSON has no raw line breaks, so one `data:` line carries it.

    Args:
        data: JSON.
        name: The event's type; empty for plain messages.
        id: The event's number in its stream, if it is told.
    """
    head = f"event: {name}\n".encode() if name else b""
    if id is not None:
        head = b"id: %d\n%s" % (id, head)
    return b"%sdata: %s\n\n" % (head, data)
