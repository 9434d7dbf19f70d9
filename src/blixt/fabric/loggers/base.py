"""What a logger is."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from blixt.fabric.loggers.params import Params, plain_params, with_prefix
from blixt.fabric.rank_zero import current_rank

__all__ = ["DummyExperiment", "Logger", "Params", "plain_params", "rank_zero_experiment", "with_prefix"]


class Logger(ABC):
    """Receives a run's numbers. Only rank 0 calls it, though it exists on all.

    Subclasses implement `name`, `version` and `log_metrics`; the rest may stay.
    """

    @property
    @abstractmethod
    def name(self) -> str | None:
        """What is being logged, for people and folders."""

    @property
    @abstractmethod
    def version(self) -> str | int | None:
        """Which run of it."""

    @abstractmethod
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Take one row of numbers. Must be quick: slow work belongs into the logger's own thread.

        Args:
            metrics: Numbers by name.
            step: Where on the axis; None lets the logger count.
        """

    def log_hyperparams(  # noqa: B027 - nothing to do is a fine default
        self, params: Params, *args: Any, **kwargs: Any
    ) -> None:
        """Take what the run was made with."""

    def log_graph(  # noqa: B027
        self, model: nn.Module, input_array: torch.Tensor | None = None
    ) -> None:
        """Take a picture of the model's operations, for a logger that can draw one."""

    @property
    def experiment(self) -> Any:
        """The object of the tool behind this logger; None where there is no such object."""
        return None

    @property
    def save_dir(self) -> str | None:
        """The folder that the user chose, if there is one."""
        return None

    @property
    def root_dir(self) -> str | None:
        """The folder of all runs of this name, if there is one."""
        return None

    @property
    def log_dir(self) -> str | None:
        """The folder of this run, if it has one; checkpoints go beside the logs."""
        return None

    @property
    def group_separator(self) -> str:
        """What parts of a metric's name are joined by: "val/loss"."""
        return "/"

    def save(self) -> None:  # noqa: B027
        """Let what was taken so far reach its place soon."""

    def finalize(self, status: str) -> None:
        """The run is over: "success", "failed" or "interrupted"."""
        self.save()

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:  # noqa: B027
        """A checkpoint callback has written a file; its attributes say which and how good."""


class DummyExperiment:
    """Takes any call and does nothing: what `experiment` is on every rank but 0."""

    def nop(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    def __getattr__(self, _: str) -> Callable[..., None]:
        return self.nop

    def __getitem__(self, index: int) -> "DummyExperiment":
        return self

    def __setitem__(self, *args: Any) -> None:
        pass


def rank_zero_experiment(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Decorator for `experiment`: other ranks get an object that does nothing."""

    @functools.wraps(make)
    def experiment(self: Any) -> Any:
        return make(self) if current_rank() == 0 else DummyExperiment()

    return experiment
