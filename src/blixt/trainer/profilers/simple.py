"""How often and how long each action ran, in a table."""

import os
import time
from collections import defaultdict

from blixt.trainer.profilers.base import Profiler

Row = tuple[str, ...]


class SimpleProfiler(Profiler):
    """Adds up the wall time of each action; on an accelerator that is the time to launch its work.

    Args:
        dirpath: Folder for the report; default the folder of the first logger.
        filename: Name of the report; None prints it.
        extended: Also show the number of calls and the part of the total time.

    Attributes:
        recorded_durations: Seconds of every call, by action.
    """

    def __init__(
        self,
        dirpath: str | os.PathLike[str] | None = None,
        filename: str | None = None,
        extended: bool = True,
    ) -> None:
        super().__init__(dirpath, filename)
        self.extended = extended
        self.current_actions: dict[str, float] = {}
        self.recorded_durations: dict[str, list[float]] = defaultdict(list)
        self.start_time = time.perf_counter()

    def start(self, action_name: str) -> None:
        """Take the time; an action does not run within itself."""
        if action_name in self.current_actions:
            raise ValueError(f"Attempted to start {action_name} which has already started.")
        self.current_actions[action_name] = time.perf_counter()

    def stop(self, action_name: str) -> None:
        """Note how long it took."""
        now = time.perf_counter()
        if action_name not in self.current_actions:
            raise ValueError(
                f"Attempting to stop recording an action ({action_name}) which was never started."
            )
        self.recorded_durations[action_name].append(now - self.current_actions.pop(action_name))

    def summary(self) -> str:
        """The table, the slowest first."""
        elapsed = time.perf_counter() - self.start_time
        totals = {action: sum(seconds) for action, seconds in self.recorded_durations.items()}
        actions = sorted(totals, key=lambda action: totals[action], reverse=True)
        calls = {action: len(self.recorded_durations[action]) for action in actions}
        header: Row = ("Action", "Mean duration (s)", "Num calls", "Total time (s)", "Percentage %")
        rows: list[Row] = [("Total", "-", str(sum(calls.values())), f"{elapsed:.5}", "100 %")]
        for action in actions:
            mean, total = totals[action] / calls[action], totals[action]
            share = 100 * total / elapsed
            rows.append((action, f"{mean:.5}", str(calls[action]), f"{total:.5}", f"{share:.5}"))
        if not self.extended:
            header, rows = _short(header), [_short(row) for row in rows[1:]]
        return f"{self.title}\n\n{_table(header, rows)}\n"


def _short(row: Row) -> Row:
    return row[0], row[1], row[3]


def _table(header: Row, rows: list[Row]) -> str:
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = [
        "|  " + "  |  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)) + "  |"
        for row in (header, *rows)
    ]
    rule = "-" * len(lines[0])
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])
