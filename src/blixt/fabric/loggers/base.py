"""What a logger is, and the folder that loggers of one run share."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast


class Logger(ABC):
    """Receives a run's numbers. Only rank 0 calls it.

    Subclasses implement `name`, `version` and `log_metrics`; the rest may stay.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """What is being logged, for people and folders."""

    @property
    @abstractmethod
    def version(self) -> str | int:
        """Which run of it."""

    @abstractmethod
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Take one row of numbers. Must be quick: slow work belongs into the logger's own thread."""

    def log_hyperparams(self, params: Mapping[str, Any]) -> None:  # noqa: B027 - not every logger has a place
        """Take what the run was made with."""

    @property
    def log_dir(self) -> str | None:
        """The folder of this run, if it has one; checkpoints go beside the logs."""
        return None

    def save(self) -> None:  # noqa: B027
        """Let what was taken so far reach its place soon."""

    def finalize(self, status: str) -> None:
        """The run is over: "success", "failed" or "interrupted"."""
        self.save()


class FolderLogger(Logger):
    """A logger that owns `<save_dir>/<name>/version_N`.

    Args:
        save_dir: The folder of all runs.
        name: One folder below; "" for none.
        version: The run; by default the first number that is free when it is first needed.
    """

    def __init__(
        self, save_dir: str | os.PathLike[str], name: str = "logs", version: int | str | None = None
    ) -> None:
        self.save_dir = Path(save_dir)
        self._name = name
        self._version = version

    @property
    def name(self) -> str:
        """The folder below `save_dir`."""
        return self._name

    @property
    def version(self) -> int | str:
        """The run."""
        if self._version is None:
            taken = [entry.name for entry in (self.save_dir / self._name).glob("version_*")]
            numbers = [int(entry[8:]) for entry in taken if entry[8:].isdecimal()]
            self._version = max(numbers, default=-1) + 1
        return self._version

    @property
    def log_dir(self) -> str:
        """The folder of this run."""
        version = self.version
        leaf = f"version_{version}" if isinstance(version, int) else version
        return str(self.save_dir / self._name / leaf)


def plain_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """`params` with nested mappings flattened to "outer/inner", and everything unusual as text."""
    flat: dict[str, Any] = {}
    for key, value in params.items():
        if isinstance(value, Mapping):
            inner = plain_params(cast("Mapping[str, Any]", value))
            flat.update({f"{key}/{name}": item for name, item in inner.items()})
        else:
            flat[key] = value if isinstance(value, (bool, int, float, str)) or value is None else str(value)
    return flat
