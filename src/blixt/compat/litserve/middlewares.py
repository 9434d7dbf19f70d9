"""ASGI middlewares under LitServe's names."""

from typing import Any


class MaxSizeMiddleware:
    """Answers 413 to a body that is too large.

    Args:
        app: The app behind it.
        max_size: The largest body, bytes; None is any.
    """

    def __init__(self, app: Any, *, max_size: int | None = None) -> None:
        self.app = app
        self.max_size = max_size

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI: count what comes."""
        if scope["type"] != "http" or self.max_size is None:
            await self.app(scope, receive, send)
            return
        from fastapi import HTTPException

        limit, size = self.max_size, 0

        async def counted() -> Any:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > limit:
                raise HTTPException(413, "Payload too large")
            return message

        await self.app(scope, counted, send)


class RequestCountMiddleware:
    """Counts active requests in a shared value.

    Args:
        app: The app behind it.
        active_counter: A `multiprocessing.Value`.
    """

    def __init__(self, app: Any, active_counter: Any) -> None:
        self.app = app
        self.active_counter = active_counter

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI: count it, whatever becomes of it."""
        if scope["type"] != "http" or scope["path"] in ("/", "/health", "/metrics"):
            await self.app(scope, receive, send)
            return
        with self.active_counter.get_lock():
            self.active_counter.value += 1
        try:
            await self.app(scope, receive, send)
        finally:
            with self.active_counter.get_lock():
                self.active_counter.value -= 1
