"""LitServe's loggers, and the bridge to blixt's."""

import logging
import pickle
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from blixt.serve import Logger as BlixtLogger

module_logger = logging.getLogger(__name__)


class Logger(ABC):
    """Takes the values of `LitAPI.log`, in a process of its own."""

    def __init__(self) -> None:
        self._config: dict[str, Any] = {}

    def mount(self, path: str, app: Any) -> None:
        """Serve an ASGI app below a path of the server."""
        self._config["mount"] = {"path": path, "app": app}

    @abstractmethod
    def process(self, key: str, value: Any) -> None:
        """Take one value."""


class Bridge(BlixtLogger):
    """Hands values on to one of LitServe's loggers.

    A logger that cannot be pickled is made anew, without arguments, in the loggers' process.
    """

    def __init__(self, logger: Logger) -> None:
        mounted: dict[str, Any] | None = vars(logger).get("_config", {}).pop("mount", None)
        self._logger: Logger | None = logger if _can_travel(logger) else None
        self._kind = type(logger)
        if mounted is not None:
            self.mount(mounted["path"], mounted["app"])

    def process(self, key: str, value: Any) -> None:
        """Hand it on."""
        if self._logger is None:
            self._logger = self._kind()
        self._logger.process(key, value)


class LoggerConnector:
    """The loggers of a server.

    Args:
        lit_server: Gets their apps mounted; None: whoever asks for `bridges` sees to that.
        loggers: One or a list.

    Raises:
        ValueError: One of them is no Logger.
    """

    def __init__(self, lit_server: Any, loggers: Logger | Sequence[Logger] | None = None) -> None:
        self._lit_server = lit_server
        self._loggers: list[Logger] = []
        if not isinstance(loggers, Logger | list | None):
            raise ValueError("loggers must be a list or an instance of litserve.Logger")
        for logger in [loggers] if isinstance(loggers, Logger) else loggers or []:
            if not isinstance(logger, Logger):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ValueError("Logger must be an instance of litserve.Logger")
            self.add_logger(logger)

    def add_logger(self, logger: Logger) -> None:
        """One more."""
        self._loggers.append(logger)
        mounted = vars(logger).get("_config", {}).get("mount")
        if mounted is not None and self._lit_server is not None:
            self._lit_server.app.mount(mounted["path"], mounted["app"])

    def bridges(self) -> list[Bridge]:
        """A bridge for each; their apps are mounted in every front."""
        return [Bridge(logger) for logger in self._loggers]


_LoggerConnector = LoggerConnector


def _can_travel(logger: Logger) -> bool:
    try:
        pickle.dumps(logger)
    except Exception:
        module_logger.warning(
            "%s cannot be pickled: the loggers' process makes one of its own, without arguments",
            type(logger).__name__,
        )
        return False
    return True
