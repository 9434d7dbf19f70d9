"""Room for bodies that are still arriving: what slow writers may hold together."""

from blixt.serve.errors import Failure

NO_ROOM = Failure(
    429,
    "Too many bytes of other bodies are on their way; try again later.",
    {"retry-after": "1", "connection": "close"},
)


class Room:
    """A count of bytes with a bound.

    Args:
        size_bytes: How many there may be.

    Example:
        >>> room = Room(10)
        >>> room.take(6), room.take(6)
        (True, False)
        >>> room.give(6); room.take(6)
        True
    """

    __slots__ = ("size_bytes", "used_bytes")

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.used_bytes = 0

    def take(self, count: int) -> bool:
        """Hold so many bytes more, if there is room for them."""
        used = self.used_bytes + count
        if used > self.size_bytes:
            return False
        self.used_bytes = used
        return True

    def give(self, count: int) -> None:
        """Hold so many bytes less."""
        self.used_bytes -= count
