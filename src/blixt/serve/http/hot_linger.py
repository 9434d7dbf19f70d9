"""Closing a connection on which the client still sends, so that it reads its answer first.

A socket closed with bytes unread makes the kernel send a reset, which may destroy an answer on its way: the
client of a body that is too large would see a broken pipe where it should read 413. So the server says that
it has said all, reads on for a moment and throws away what it reads.
"""

import asyncio
from collections.abc import Callable
from typing import Any

LINGER_S = 2.0


class LingeringTransport:
    """A transport whose `close` waits for the client, if it must; everything else is the transport's own.

    Args:
        transport: The connection.
        must_wait: Says whether the client may still be sending.
        loop: The event loop.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        must_wait: Callable[[], bool],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.real = transport
        self.write: Callable[[bytes], None] = transport.write
        self.lingers = False
        self._must_wait = must_wait
        self._loop = loop

    def close(self) -> None:
        """Close, after what was written is sent and the client has had time to read it."""
        if self.lingers or self.real.is_closing():
            return
        if not self._must_wait():
            self.real.close()
            return
        self.lingers = True
        self.write = _drop
        if self.real.can_write_eof():
            self.real.write_eof()
        self.real.resume_reading()
        self._loop.call_later(LINGER_S, self.real.close)

    def is_closing(self) -> bool:
        """Whether nothing more can be said."""
        return self.lingers or self.real.is_closing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def _drop(data: bytes) -> None:
    """As every closed transport does with what is written late."""
