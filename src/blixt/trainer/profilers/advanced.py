"""Which functions each action spends its time in, by cProfile."""

import cProfile
import io
import os
import pstats
from typing import Any

from blixt.trainer.profilers.base import Profiler


class AdvancedProfiler(Profiler):
    """Runs cProfile around each action; verbose, and it slows Python code down.

    Only one action is recorded at a time: an action that begins within another one interrupts it.

    Args:
        dirpath: Folder for the report; default the folder of the first logger.
        filename: Name of the report; None prints it.
        line_count_restriction: How many functions to show of an action: a number, or a part (float up to 1).
        dump_stats: Also write a `.prof` file an action, for viewers such as snakeviz.
    """

    def __init__(
        self,
        dirpath: str | os.PathLike[str] | None = None,
        filename: str | None = None,
        line_count_restriction: float = 1.0,
        dump_stats: bool = False,
    ) -> None:
        super().__init__(dirpath, filename)
        self.line_count_restriction = line_count_restriction
        self.dump_stats = dump_stats
        self.profiled_actions: dict[str, cProfile.Profile] = {}
        self._running: list[str] = []

    def start(self, action_name: str) -> None:
        """Record this action from now on."""
        if self._running:
            self.profiled_actions[self._running[-1]].disable()
        self._running.append(action_name)
        self.profiled_actions.setdefault(action_name, cProfile.Profile()).enable()

    def stop(self, action_name: str) -> None:
        """Record the action around it again, if there is one."""
        if action_name not in self.profiled_actions:
            raise ValueError(
                f"Attempting to stop recording an action ({action_name}) which was never started."
            )
        self.profiled_actions[action_name].disable()
        if action_name in self._running:
            self._running.remove(action_name)
        if self._running:
            self.profiled_actions[self._running[-1]].enable()

    def summary(self) -> str:
        """The functions of each action, by cumulative time."""
        parts = [self.title]
        for action, profile in self.profiled_actions.items():
            profile.disable()
            if not profile.getstats():
                continue
            if self.dump_stats:
                path = self.file(action, ".prof")
                path.parent.mkdir(parents=True, exist_ok=True)
                profile.dump_stats(path)
            text = io.StringIO()
            stats = pstats.Stats(profile, stream=text).strip_dirs().sort_stats("cumulative")
            stats.print_stats(self.line_count_restriction)
            rank = "" if self._local_rank is None else f" rank: {self._local_rank}"
            parts += [f"Profile stats for: {action}{rank}", text.getvalue()]
        return "\n".join(parts)

    def teardown(self, stage: str | None) -> None:
        """Let go of the records."""
        self.profiled_actions.clear()
        self._running.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "profiled_actions": {}, "_running": []}
