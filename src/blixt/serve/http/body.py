"""Receiving a large body straight into shared memory."""

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blixt.serve.http.hot import HotProtocol
    from blixt.serve.http.hot_exchange import HotExchange


class BlockReceiver(asyncio.BufferedProtocol):
    """Borrows a connection until one body is whole: the kernel writes where the worker will read.

    Args:
        owner: The protocol that lends its connection and gets it back.
        exchange: The request; its `block` is filled from `size` on.
    """

    def __init__(self, owner: "HotProtocol", exchange: "HotExchange") -> None:
        assert exchange.block is not None
        self._owner = owner
        self._exchange = exchange
        self._view = exchange.block.view

    def get_buffer(self, sizehint: int) -> memoryview:
        """Asyncio: the rest of the block; what follows the body stays in the kernel."""
        return self._view[self._exchange.size :]

    def buffer_updated(self, nbytes: int) -> None:
        """Asyncio: so much has come."""
        exchange = self._exchange
        exchange.size += nbytes
        self._owner.seen_at = self._owner.loop.time()
        self._owner.read_bytes += nbytes
        if exchange.size == len(self._view):
            self._owner.take_back()

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio: the client left in the middle."""
        self._owner.connection_lost(exc)

    def eof_received(self) -> None:
        """Asyncio: nothing more will come; the transport closes."""

    def pause_writing(self) -> None:
        """Asyncio: the client does not read."""
        self._owner.pause_writing()

    def resume_writing(self) -> None:
        """Asyncio: the client has read."""
        self._owner.resume_writing()
