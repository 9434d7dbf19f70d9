"""A logger for runs that shall leave nothing."""

from typing import Any

from blixt.fabric.loggers.base import DummyExperiment, Logger


class DummyLogger(Logger):
    """Takes everything and keeps nothing: for `fast_dev_run` and tests."""

    def __init__(self) -> None:
        self._experiment = DummyExperiment()

    @property
    def experiment(self) -> DummyExperiment:
        """Takes any call and does nothing."""
        return self._experiment

    @property
    def name(self) -> str:
        """Empty."""
        return ""

    @property
    def version(self) -> str:
        """Empty."""
        return ""

    def log_metrics(self, *args: Any, **kwargs: Any) -> None:
        """Nothing."""

    def __getitem__(self, index: int) -> "DummyLogger":
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._experiment.nop
