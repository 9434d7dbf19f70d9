"""What a `ModelCheckpoint` may be told, and what makes a checkpoint due: steps, time or epochs."""

import os
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from blixt.fabric import ConfigError, Fabric
from blixt.trainer.callbacks import checkpoint_files as files
from blixt.trainer.callbacks.timed import TimedDecision
from blixt.trainer.interval import seconds


@dataclass
class Triggers:
    """When checkpoints are due; exactly one of the three is in use, or none.

    Attributes:
        steps: Optimizer steps between checkpoints; 0 for never.
        time: Time between checkpoints, or None.
        epochs: Epochs between checkpoints; 0 for never.
    """

    steps: int
    time: timedelta | None
    epochs: int
    _since: float = field(default=0.0, repr=False)

    def clock(self, fabric: Fabric) -> TimedDecision | None:
        """Says when the time has passed since the last `restart`; None when time does not matter."""
        if self.time is None:
            return None
        self.restart()
        interval_s = self.time.total_seconds()
        return TimedDecision(fabric, lambda: self._since + interval_s - time.monotonic())

    def restart(self) -> None:
        """Begin to wait anew."""
        self._since = time.monotonic()


def make_triggers(steps: int | None, interval: timedelta | str | None, epochs: int | None) -> Triggers:
    """Check the three arguments of `ModelCheckpoint` and fill in the default, every epoch."""
    for name, value in (("every_n_train_steps", steps), ("every_n_epochs", epochs)):
        if value is not None and value < 0:
            raise ConfigError(f"ModelCheckpoint({name})", value, "it counts", "Use 1 or more")
    given = {"every_n_train_steps": steps, "train_time_interval": interval, "every_n_epochs": epochs}
    used = [name for name, value in given.items() if value is not None and value != 0]
    if len(used) > 1:
        reason = f"{used[0]} is given as well"
        raise ConfigError(
            f"ModelCheckpoint({used[1]})", given[used[1]], reason, "Use two ModelCheckpoints for two rhythms"
        )
    if steps is None and interval is None and epochs is None:
        epochs = 1
    if interval is not None and not isinstance(interval, timedelta):
        interval = timedelta(seconds=seconds(interval, "ModelCheckpoint(train_time_interval)"))
    return Triggers(steps or 0, interval, epochs or 0)


def folder_of(dirpath: str | os.PathLike[str] | None) -> str | None:
    """The folder of checkpoints: a whole path, or a URL as it is."""
    if not dirpath:
        return None
    folder = os.fspath(dirpath)
    return os.path.realpath(os.path.expanduser(folder)) if files.is_local(folder) else folder


def check_arguments(monitor: str | None, save_top_k: int, mode: str, save_last: Any, dirpath: Any) -> None:
    """Refuse arguments of `ModelCheckpoint` that cannot work."""
    if mode not in ("min", "max"):
        raise ConfigError("ModelCheckpoint(mode)", mode, "it is unknown", "Use 'min' or 'max'")
    if save_top_k < -1:
        raise ConfigError("ModelCheckpoint(save_top_k)", save_top_k, "it counts files", "Use -1 for all")
    if monitor is None and save_top_k not in (-1, 0, 1):
        reason = "without a monitor nothing says which are the best"
        raise ConfigError(
            "ModelCheckpoint(save_top_k)", save_top_k, reason, "Name a monitor, or use -1, 0 or 1"
        )
    if save_last not in (None, True, False, "link"):
        raise ConfigError(
            "ModelCheckpoint(save_last)", save_last, "it is unknown", "Use True, False or 'link'"
        )
    if save_last == "link" and dirpath is not None:
        refuse_remote_link(str(dirpath))


def refuse_remote_link(folder: str) -> None:
    """Refuse `save_last="link"` for a URL."""
    if not files.is_local(folder):
        reason = f"there are no links in {folder}"
        raise ConfigError("ModelCheckpoint(save_last)", "link", reason, "Use save_last=True")
