"""One rank of a Slurm job: trains, and in its first attempt lets the test see where it is."""

import sys
import time
from pathlib import Path
from typing import Any

from blixt.fabric.cluster import SlurmEnvironment
from blixt.trainer import Callback

from .runs import Job, train

_HOLD_AT, _PATIENCE_S = 7, 240


class Hold(Callback):
    """Stays at a step until this rank knows that it has to go."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """After each step."""
        if SlurmEnvironment().restart_count or trainer.global_step < _HOLD_AT:
            return
        (self._folder / f"ready{trainer.global_rank}").touch()
        deadline = time.monotonic() + _PATIENCE_S
        while trainer._run.stop.requested is None:
            assert time.monotonic() < deadline, "no signal came"
            time.sleep(0.02)


def main(folder: Path) -> None:
    """One attempt."""
    environment = SlurmEnvironment()
    with open(folder / f"attempts{environment.global_rank()}", "a") as attempts:
        attempts.write(f"{environment.restart_count}\n")
    train(Job(str(folder), ranks=2, workers=0), Hold(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
