"""Uvicorn as a part: its HTTP, its connections, but not its signals, which are the server's to read."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import uvicorn


class UvicornServer(uvicorn.Server):
    """A uvicorn server that someone else tells to stop."""

    def __init__(self, app: Any, log_level: str, stop_s: float) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="httptools",
                ws="none",
                lifespan="on",
                log_level=log_level,
                access_log=False,
                timeout_graceful_shutdown=max(1, round(stop_s)),
            )
        )
        self._was_started = asyncio.Event()

    async def startup(self, sockets: Any = None) -> None:
        """Uvicorn: bind and begin; note that it is done."""
        await super().startup(sockets)
        self._was_started.set()

    async def until_started(self, serving: "asyncio.Task[None]") -> None:
        """Wait until connections are accepted, or until serving has failed."""
        started = asyncio.create_task(self._was_started.wait())
        await asyncio.wait({started, serving}, return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if serving.done():
            await serving

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Uvicorn: would install its own handlers."""
        yield
