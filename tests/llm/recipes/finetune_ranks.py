"""What two ranks do for `test_finetune`: a run, one that breaks off and goes on, each on real gloo ranks."""

import shutil
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


class BrokenRun:
    """A check for `run_checks`: a whole run, then one that breaks off after a step and is started again."""

    def __init__(self, whole: FinetuneConfig, broken: FinetuneConfig, copy: Path) -> None:
        self.__name__ = "broken_run"
        self.whole, self.broken, self.copy = whole, broken, copy

    def __call__(self, rank: int, folder: Path) -> dict[str, Any]:
        metrics = run(self.whole)
        try:
            with BreaksAfter(5):
                run(self.broken)
        except Broken:
            pass
        if rank == 0:
            shutil.copytree(Path(self.broken.out) / "checkpoints", self.copy)
        return {"whole": metrics, "again": run(self.broken)}
