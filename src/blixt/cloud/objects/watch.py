"""Wake-ups for watchers: set from whichever thread committed, awaited on the watcher's event loop."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class Subscription:
    """One watcher's wake-up. It says only that something changed; `Store.changes` says what."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._event = asyncio.Event()
        self.closed = False

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the next wake-up and clear it; return False when the time is over first."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True

    def clear(self) -> None:
        """Forget a wake-up that was already acted on."""
        self._event.clear()

    def is_set(self) -> bool:
        """Return whether a wake-up is waiting."""
        return self._event.is_set()

    def wake(self) -> None:
        """Set the wake-up; safe from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._event.set)
        except RuntimeError:
            # The watcher's loop has ended; its context manager drops the subscription.
            pass


class Watchers:
    """All subscriptions of one store."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscriptions: set[Subscription] = set()
        self._closed = False

    @asynccontextmanager
    async def subscribe(self) -> AsyncGenerator[Subscription]:
        """Register a watcher on the running event loop for the length of the block."""
        subscription = Subscription(asyncio.get_running_loop())
        with self._lock:
            self._subscriptions.add(subscription)
            subscription.closed = self._closed
        try:
            yield subscription
        finally:
            with self._lock:
                self._subscriptions.discard(subscription)

    def notify(self) -> None:
        """Wake every watcher."""
        with self._lock:
            subscriptions = list(self._subscriptions)
        for subscription in subscriptions:
            subscription.wake()

    def close(self) -> None:
        """Tell every watcher, present and future, to end: the server is shutting down."""
        with self._lock:
            self._closed = True
            for subscription in self._subscriptions:
                subscription.closed = True
        self.notify()
