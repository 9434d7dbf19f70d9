"""What two real gloo ranks do for `test_finetune`: a run, one that is killed, and that one going on."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

from blixt.llm.recipes.finetune import FinetuneConfig, run
from blixt.llm.recipes.report import Report


class Broken(Exception):
    """The run ends here, as if the machine had gone."""


class BreaksAfter:
    """Makes the report of a step the last thing a run does."""

    def __init__(self, step: int) -> None:
        self.step, self.report = step, Report.step

    def __enter__(self) -> None:
        report, last = self.report, self.step

        def step(self: Report, step: int, tokens: Any, **metrics: Any) -> None:
            report(self, step, tokens, **metrics)
            if step == last:
                raise Broken

        Report.step = step  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        Report.step = self.report  # type: ignore[method-assign]


class KilledRuns:
    """A check for `run_checks`: a whole run, then one in which all ranks die of SIGKILL after a step."""

    def __init__(self, whole: FinetuneConfig, broken: FinetuneConfig) -> None:
        self.__name__ = "killed_runs"
        self.whole, self.broken = whole, broken

    def __call__(self, rank: int, folder: Path) -> None:
        run(self.whole)
        try:
            with BreaksAfter(5):
                run(self.broken)
        except Broken:
            os.kill(os.getpid(), signal.SIGKILL)


class StartedAgain:
    """A check for `run_checks`: a run that goes on; its checkpoints as it finds them are copied first."""

    def __init__(self, broken: FinetuneConfig, copy: Path) -> None:
        self.__name__ = "started_again"
        self.broken, self.copy = broken, copy

    def __call__(self, rank: int, folder: Path) -> dict[str, Any]:
        if rank == 0:
            shutil.copytree(Path(self.broken.out) / "checkpoints", self.copy)
        return run(self.broken)
