"""One rank under torchrun: the first attempt is killed in the middle."""

import sys
from pathlib import Path

from blixt.fabric.cluster import TorchrunEnvironment

from .runs import Job, Kill, train


def main(folder: Path) -> None:
    """One attempt."""
    count = TorchrunEnvironment().restart_count
    (folder / f"attempt{count}").touch()
    train(Job(str(folder), ranks=2, workers=0, kill=Kill("batch", 13, rank=1) if count == 0 else None))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
