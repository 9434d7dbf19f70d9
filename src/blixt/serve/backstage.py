"""What all workers of a server share: a folder for large values, and the loggers' process."""

from collections.abc import Sequence
from typing import Any

from blixt.serve.handoff import Folder
from blixt.serve.loggers import LogProcess


class Backstage:
    """Made before the workers, closed after them.

    Args:
        loggers: The server's; without any there is no process for them.
    """

    def __init__(self, loggers: Sequence[Any] = ()) -> None:
        self._folder = Folder()
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
        if self._log is not None:
            self._log.close()
        self._folder.close()
