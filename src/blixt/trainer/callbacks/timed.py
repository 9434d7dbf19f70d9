"""Decide by the clock, at the same step on all ranks, without a collective in every step."""

import time
from collections.abc import Callable

from blixt.fabric import Fabric


class TimedDecision:
    """Whether an instant has passed, asked after every step and answered alike on all ranks.

    One process looks at its clock. Several would disagree for a step, so rank 0 decides for all, at steps
    that all know: each time it says how many steps are left to the next time they ask, half as many as fit
    into the remaining time. A wait of a thousand steps costs about ten broadcasts.

    Args:
        fabric: The processes.
        remaining_s: Seconds that are left; negative when the instant has passed.
    """

    def __init__(self, fabric: Fabric, remaining_s: Callable[[], float]) -> None:
        self._fabric = fabric
        self._remaining_s = remaining_s
        self._alone = fabric.world_size == 1
        self._asks_at = 0
        self._asked: tuple[int, float] | None = None

    def due(self, step: int) -> bool:
        """Whether the instant has passed; `step` is the same number on all ranks and only grows."""
        if self._alone:
            return self._remaining_s() <= 0
        if step < self._asks_at:
            return False
        answer = self._fabric.broadcast(self._steps_left(step) if self._fabric.is_global_zero else 0)
        self._asks_at = step + max(1, answer)
        return answer == 0

    def _steps_left(self, step: int) -> int:
        remaining = self._remaining_s()
        if remaining <= 0:
            return 0
        now, before = time.monotonic(), self._asked
        self._asked = (step, now)
        if before is None or step <= before[0]:
            return 1
        step_s = max((now - before[1]) / (step - before[0]), 1e-9)
        return max(1, int(remaining / step_s / 2))
