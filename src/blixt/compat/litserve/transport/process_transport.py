"""Answers through queues: for loops that are run by hand, in tests and notebooks.

A server has no use for it: its loops answer over the worker's socket, see `loops.on_channel`.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from queue import Empty
from typing import Any

from .base import MessageTransport

LOOK_UP_S = 1.0


class MPQueueTransport(MessageTransport):
    """One queue for each asker.

    Args:
        manager: Whoever made the queues; not used.
        queues: `queue.Queue`s, or a manager's.
    """

    def __init__(self, manager: Any, queues: Sequence[Any]) -> None:
        self._queues = queues
        self._closed = False

    def send(self, item: Any, consumer_id: int) -> None:
        """Put it into the asker's queue."""
        self._queues[consumer_id].put(item)

    async def areceive(
        self, consumer_id: int | None = None, timeout: float | None = None, block: bool = True
    ) -> Any:
        """The asker's next message; None if there was none within a second and no `timeout_s` was set.

        Raises:
            asyncio.CancelledError: It is closed.
            queue.Empty: None came within `timeout` seconds.
        """
        patience_s = LOOK_UP_S if timeout is None else timeout
        while not self._closed:
            look_s = min(patience_s, LOOK_UP_S)
            try:
                return await asyncio.to_thread(self._queues[consumer_id or 0].get, timeout=look_s)
            except Empty:
                patience_s -= look_s
                if patience_s > 0 or self._closed:
                    continue
                if timeout is None:
                    return None
                raise
        raise asyncio.CancelledError("Transport closed")

    def close(self, send_sentinel: bool = True, **kwargs: Any) -> None:
        """Wake whoever waits, with None, and receive no more."""
        self._closed = True
        for queue in self._queues if send_sentinel else ():
            with suppress(Exception):
                queue.put(None, block=False)

    def __reduce__(self) -> Any:
        """The queues travel; their manager does not."""
        return (MPQueueTransport, (None, self._queues))
