"""What a profiler is."""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


class Profiler(ABC):
    """Measures named actions between `start` and `stop`; derive from it to write your own.

    The Trainer calls `setup` when a stage begins and `describe` when it ends. A profiler works without a
    Trainer as well: use `profile` as a context and call `describe`.

    Args:
        dirpath: Folder for the report; default the folder of the first logger.
        filename: Name of the report, to which stage, rank and ending are added; None prints it on rank 0.
    """

    def __init__(self, dirpath: str | os.PathLike[str] | None = None, filename: str | None = None) -> None:
        self.dirpath = dirpath
        self.filename = filename
        self._stage: str | None = None
        self._local_rank: int | None = None

    @abstractmethod
    def start(self, action_name: str) -> None:
        """An action begins."""

    @abstractmethod
    def stop(self, action_name: str) -> None:
        """It ends."""

    @contextmanager
    def profile(self, action_name: str) -> Generator[str]:
        """A context whose body is the action."""
        self.start(action_name)
        try:
            yield action_name
        finally:
            self.stop(action_name)

    def setup(self, stage: str, local_rank: int | None = None, log_dir: str | None = None) -> None:
        """A stage begins.

        Args:
            stage: fit, validate, test or predict.
            local_rank: Of this process on its machine; every rank measures itself.
            log_dir: Where reports go when no `dirpath` was given.
        """
        self._stage = stage
        self._local_rank = local_rank
        if self.dirpath is None:
            self.dirpath = log_dir

    def attach(self, module: "nn.Module") -> None:  # noqa: B027 - most have no use for it
        """The module that the stage is about; called after `setup`."""

    def teardown(self, stage: str | None) -> None:  # noqa: B027
        """A stage is over; let go of what was measured where keeping it costs."""

    def summary(self) -> str:
        """The report so far; "" for none."""
        return ""

    def describe(self) -> None:
        """Write the report where it belongs, or print it on rank 0."""
        report = self.summary()
        if report and self.filename and self.dirpath is not None:
            path = self.file("")
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as file:
                file.write(report)
        elif report and self._local_rank in (None, 0):
            print(report)
        self.teardown(self._stage)

    def file(self, action_name: str, extension: str = ".txt") -> Path:
        """Where something about `action_name` goes; "" for the report itself."""
        rank = "" if self._local_rank is None else str(self._local_rank)
        parts = [self._stage or "", self.filename or "", rank, action_name]
        name = re.sub(r"[\\/:*?\"<>|\s]+", "_", "-".join(part for part in parts if part))
        return Path(self.dirpath or ".") / f"{name or 'profile'}{extension}"

    @property
    def local_rank(self) -> int:
        """Of this process on its machine; 0 without a Trainer."""
        return self._local_rank or 0

    @property
    def title(self) -> str:
        """The first line of a report."""
        return f"{self._stage.upper()} Profiler Report" if self._stage is not None else "Profiler Report"


class PassThroughProfiler(Profiler):
    """Measures nothing; the Trainer takes it for none."""

    def start(self, action_name: str) -> None:
        """Nothing."""

    def stop(self, action_name: str) -> None:
        """Nothing."""
