"""What the gateway needs of a connection to a workload: a `Stream`; and how it gets one: a `Dialer`."""

from collections.abc import Awaitable, Callable
from typing import Protocol, runtime_checkable


@runtime_checkable
class Stream(Protocol):
    """Bytes both ways with back-pressure."""

    async def read(self, n: int = 65536) -> bytes:
        """Return at least one byte and about `n` at most, or b"" at the end.

        Raises:
            ConnectionError: the connection broke.
        """
        ...

    async def write(self, data: bytes) -> None:
        """Send `data`; returns when the other side has room for more.

        Raises:
            ConnectionError: the connection broke.
        """
        ...

    async def close(self) -> None:
        """Release the connection; waiting reads end. Calling it again does nothing."""
        ...


@runtime_checkable
class HalfCloseStream(Stream, Protocol):
    """A stream that can say "no more from me" and still be read."""

    async def write_eof(self) -> None:
        """End the sending direction."""
        ...


Dialer = Callable[[str, int], Awaitable[Stream]]
"""`(allocation_id, port)` to an open Stream; raises OSError when nothing listens there."""
