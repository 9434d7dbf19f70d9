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


def bridges(loggers: Logger | Sequence[Logger] | None) -> list[Bridge]:
    """A bridge for each logger.

    Raises:
        ValueError: One of them is no Logger.
    """
    if loggers is None:
        return []
    if isinstance(loggers, Logger):
        return [Bridge(loggers)]
    if not isinstance(loggers, list):
        raise ValueError("loggers must be a list or an instance of litserve.Logger")
    for logger in loggers:
        if not isinstance(logger, Logger):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError("Logger must be an instance of litserve.Logger")
    return [Bridge(logger) for logger in loggers]


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
