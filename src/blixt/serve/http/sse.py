"""Server-sent events: one JSON value a message."""


def event(data: bytes, name: str = "") -> bytes:
    """One event. JSON has no raw line breaks, so one `data:` line carries it."""
    head = f"event: {name}\n".encode() if name else b""
    return b"%sdata: %s\n\n" % (head, data)
