"""Which checkpoints are among the best."""

from dataclasses import dataclass, field
from typing import Literal

import torch


@dataclass
class Ranking:
    """The best checkpoints so far.

    Attributes:
        mode: Whether a small or a large score is good.
        keep: How many are kept; -1 for all.
        scores: Of the kept ones, by path.
    """

    mode: Literal["min", "max"]
    keep: int
    scores: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])

    def admits(self, score: float) -> bool:
        """Whether a checkpoint of this score would be kept.

        Example:
            >>> Ranking("min", 1, {"a": torch.tensor(0.5)}).admits(0.6)
            False
        """
        if self.keep == -1 or len(self.scores) < self.keep:
            return True
        worst = float(self.scores[self.worst])
        return score < worst if self.mode == "min" else score > worst

    def evicted(self) -> str | None:
        """Which path has to go for a new one; None while there is room."""
        full = self.keep != -1 and len(self.scores) >= self.keep
        return self.worst if full else None

    @property
    def best(self) -> str:
        """The path of the best one; there must be one."""
        return (min if self.mode == "min" else max)(self.scores, key=lambda path: float(self.scores[path]))

    @property
    def worst(self) -> str:
        """The path of the worst one; there must be one."""
        return (max if self.mode == "min" else min)(self.scores, key=lambda path: float(self.scores[path]))

    @property
    def hopeless(self) -> torch.Tensor:
        """The score that is worse than every other."""
        return torch.tensor(float("inf") if self.mode == "min" else float("-inf"))
