"""Server-sent events out of bytes, however they are cut."""

from typing import NamedTuple


class Event(NamedTuple):
    """One event: its name ("" for a plain message) and data."""

    name: str
    data: str


class EventReader:
    """Cuts a byte stream into events, as the HTML standard says: any line ending, comments ignored.

    Args:
        max_event_bytes: The largest event that is accepted.
    """

    def __init__(self, max_event_bytes: int = 64 * 2**20) -> None:
        self._max = max_event_bytes
        self._rest = bytearray()
        self._name = ""
        self._data: list[str] = []
        self._data_bytes = 0

    def feed(self, chunk: bytes) -> list[Event]:
        """Take the next bytes and return the events that they complete.

        Raises:
            ValueError: An event is larger than the limit.
        """
        self._rest += chunk
        events: list[Event] = []
        *lines, rest = self._lines()
        self._rest = bytearray(rest)
        for line in lines:
            event = self._take(line)
            if event is not None:
                events.append(event)
        if len(self._rest) + self._data_bytes > self._max:
            raise ValueError(f"an event is larger than {self._max} bytes")
        return events

    def _lines(self) -> list[bytes]:
        held = bytes(self._rest)
        if held.endswith(b"\r"):
            # Its line feed may come with the next bytes.
            whole, end = held[:-1], b"\r"
        else:
            whole, end = held, b""
        lines = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        lines[-1] += end
        return lines

    def _take(self, line: bytes) -> Event | None:
        if not line:
            return self._dispatch()
        field, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)
            self._data_bytes += len(line)
        return None

    def _dispatch(self) -> Event | None:
        event = Event(self._name, "\n".join(self._data)) if self._data else None
        self._name, self._data, self._data_bytes = "", [], 0
        return event
