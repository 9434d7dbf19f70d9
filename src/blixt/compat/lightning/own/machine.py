"""What the machines of a run share."""

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

from torch import distributed

from blixt.fabric import all_gather_objects


def is_shared_filesystem(
    strategy: object, path: str | os.PathLike[str] | None = None, timeout: int = 3
) -> bool:
    """Whether all machines see the same folder; with one machine they do.

    Args:
        strategy: Of the running Fabric or Trainer.
        path: The folder; default the working directory.
        timeout: Not needed; nothing is waited for but the other processes.

    Raises:
        FileNotFoundError: When the folder does not exist here.
    """
    place = Path(path if path is not None else os.getcwd())
    if "://" in str(path):
        return True
    if not place.exists():
        raise FileNotFoundError(
            f"Unable to determine if the path belongs to a shared filesystem: no {place}."
        )
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return True
    with ExitStack() as stack:
        mark = None
        if distributed.get_rank() == 0:
            mark = stack.enter_context(tempfile.NamedTemporaryFile(dir=place)).name
        name = all_gather_objects(mark)[0]
        return all(all_gather_objects(name is not None and Path(name).exists()))
