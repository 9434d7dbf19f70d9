"""Which checkpoint files a logger has not seen yet."""

import os
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FreshFile:
    """A checkpoint that is new, or newer than when it was seen.

    Attributes:
        time: When it was written, in seconds.
        path: Where.
        score: Of the monitored metric, or None.
        tag: "latest" for a `last` checkpoint, else "best" or "best_k".
        best: Whether the callback's best checkpoint is this one.
    """

    time: float
    path: str
    score: float | None
    tag: str
    best: bool


def fresh_files(callback: Any, seen: dict[str, float]) -> list[FreshFile]:
    """Checkpoints of a callback that are not in `seen` with their time; oldest first."""
    best = str(getattr(callback, "best_model_path", "") or "")
    candidates: dict[str, tuple[Any, str]] = {}
    last = str(getattr(callback, "last_model_path", "") or "")
    if last:
        candidates[last] = (getattr(callback, "current_score", None), "latest")
    if best:
        candidates[best] = (getattr(callback, "best_model_score", None), "best")
    for path, score in dict(getattr(callback, "best_k_models", {}) or {}).items():
        candidates[str(path)] = (score, "best_k")
    found: list[FreshFile] = []
    for path, (score, tag) in candidates.items():
        if not os.path.exists(path):
            continue
        time = os.path.getmtime(path)
        if seen.get(path, -1.0) < time:
            found.append(FreshFile(time, path, None if score is None else float(score), tag, path == best))
    return sorted(found, key=lambda item: item.time)


def uploads_now(log_model: object, callback: Any) -> bool:
    """Whether files go up as they are written: "all", or True with every file kept; else at the end."""
    return log_model == "all" or (log_model is True and getattr(callback, "save_top_k", 1) == -1)
