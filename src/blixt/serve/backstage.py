"""What all workers of a server share: a folder for large values, and the loggers' process."""

import asyncio
from collections.abc import Sequence
from typing import Any

from blixt.serve.config import Limits
from blixt.serve.handoff import Folder
from blixt.serve.loggers import LogProcess


class Backstage:
    """Made before the workers, in the event loop, and closed after them.

    Args:
        limits: How long requests may wait, and so the values in the folder.
        loggers: The server's; without any there is no process for them.
    """

    def __init__(self, limits: Limits, loggers: Sequence[Any] = ()) -> None:
        self._folder = Folder()
        self._loop = asyncio.get_running_loop()
        self._closed = False
        if limits.timeout_s < float("inf"):
            age_s = limits.timeout_s + limits.kill_grace_s
            self._loop.call_later(age_s, self._sweep, age_s)
        self._log = LogProcess(loggers) if loggers else None

    @property
    def folder(self) -> str:
        """Where large values lie on their way from worker to worker."""
        return self._folder.path

    @property
    def log_address(self) -> str | None:
        """Where `API.log` sends its values."""
        return None if self._log is None else self._log.address

    def close(self) -> None:
        """End the loggers and remove the folder with all that crashes have left in it."""
        self._closed = True
        if self._log is not None:
            self._log.close()
        self._folder.close()

    def _sweep(self, age_s: float) -> None:
        """Again and again: what lies longer than anybody waits was left by a worker or front that crashed."""
        if not self._closed:
            self._folder.sweep(age_s)
            self._loop.call_later(age_s, self._sweep, age_s)
